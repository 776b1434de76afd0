package ecellmlite;

import java.time.Duration;
import java.util.List;

/**
 * How a child is started.
 *
 * @param command {@code ecellm-lite pipe}, where needed with a path and options
 * @param showMessages whether what it says to people goes to this program's standard error
 * @param startLimit how long the model may take to load
 */
public record Settings(List<String> command, boolean showMessages, Duration startLimit) {
    /** Throws IllegalArgumentException for a command without a program. */
    public Settings {
        command = List.copyOf(command);
        if (command.isEmpty()) {
            throw new IllegalArgumentException("The command is empty: give a program, such as ecellm-lite pipe.");
        }
    }

    /** What it says to people is shown, and it may take ten minutes to load; no command is {@code ecellm-lite pipe}. */
    public Settings(String... command) {
        this(command.length > 0 ? List.of(command) : List.of("ecellm-lite", "pipe"), true, Duration.ofMinutes(10));
    }
}
