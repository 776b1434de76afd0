package ecellmlite;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Locale;
import java.util.Map;

/** Reads a review a line, and prints what the customer thinks. */
final class ExampleTill {
    private static final double ENOUGH = 0.8; // below it a person decides

    public static void main(String[] command) throws IOException {
        PrintStream screen = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader reviews = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (Client client = Client.start(new Settings(command))) {
            for (String review; (review = reviews.readLine()) != null; ) {
                try {
                    Map<String, String> row = Map.of("review", review);
                    Answer answer = client.ask("sentiment_analysis", row, new Options(), Duration.ofSeconds(30));
                    String decision = answer.abstained() ? "not sure" : answer.text();
                    String advice = answer.abstained() || answer.probability() < ENOUGH ? "  ask a person" : "";
                    screen.printf(Locale.ROOT, "%s  %.2f%s%n", decision, answer.probability(), advice);
                } catch (EcellmException error) {
                    screen.printf("no answer (%s): %s  ask a person%n", error.code(), error.getMessage());
                }
            }
        } catch (EcellmException error) { // it does not start
            System.err.println(error.getMessage());
            System.exit(1);
        }
    }
}
