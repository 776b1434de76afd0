package ecellmlite;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/** Check talk|die|start COMMAND...: the client for Java against the pipe over the fake engine. */
final class Check {
    private static final String TASK = "sentiment_analysis";
    private static final Map<String, Object> GOOD = Map.of("review", "It works.");
    private static final Duration LIMIT = Duration.ofSeconds(60);

    public static void main(String[] arguments) throws Exception {
        String[] command = Arrays.copyOfRange(arguments, 1, arguments.length);
        switch (arguments[0]) {
            case "json" -> json();
            case "talk" -> talk(command);
            case "die" -> die(command);
            case "start" -> start(command);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static void json() {
        for (String text : List.of("null", "-0.5e3", "[]", "{}", "[1,2.5,{\"a\":[true,false,null]}]", "\"\\ud83d\\ude00\\u0000\"", "7")) {
            Object value = Json.read(text);
            check(Objects.equals(Json.read(Json.write(value)), value));
        }
        check(Json.read(" {\"a\" : [ 1 , -2.0 , \"\\n\\/\" ] } ").equals(Map.of("a", List.of(1L, -2.0, "\n/"))));
        check(Json.write(Map.of("ä", List.of("\"\\\n", 1, 2.5, true))).equals("{\"\\u00e4\":[\"\\\"\\\\\\u000a\",1,2.5,true]}"));
        for (String text : List.of("", "{", "[1,]", "{\"a\"}", "tru", "1 2", "\"", "\"\\x\"", "\"\\u12", "-", "[".repeat(5000))) {
            try {
                Json.read(text);
            } catch (IllegalArgumentException error) {
                continue;
            }
            throw new AssertionError(text);
        }
        fails(IllegalArgumentException.class, () -> Json.write(Double.NaN));
        fails(IllegalArgumentException.class, () -> Json.write(new Object()));
    }

    private static void talk(String[] command) throws Exception {
        Duration endless = Duration.ofSeconds(Long.MAX_VALUE);
        Client client = Client.start(new Settings(List.of(command), true, endless));
        long pid = client.pid();
        check(((List<?>) client.ready().get("tasks")).contains(TASK));
        Answer answer = client.ask(TASK, GOOD, new Options().uncalibrated().urgent(), LIMIT);
        check(client.ask(TASK, GOOD, new Options(), endless).value().equals(answer.value()));
        check(answer.probability() > 0 && answer.probability() <= 1 && answer.text() != null);
        check(((Map<?, ?>) answer.fields().get("probabilities")).containsKey(answer.value()));

        eachOnce(collect(client, rows(200), count -> {}), 200);
        List<Result> mixed = collect(client, List.of(GOOD, Map.of(), GOOD), count -> {});
        check(mixed.get(0).error() == null && mixed.get(1).error().code().equals("input") && mixed.get(2).error() == null);

        Map<String, String> question = Map.of("type", "predicate", "instructions", "Does the customer want a refund?");
        check(client.ask(question, Map.of("state", "I want my money back.")).value() instanceof Boolean);

        String id = "🛒 “it's” \"quoted\" \\ \u0007 größe 漢字 \u2028";
        check(client.ask(TASK, Map.of("id", id, "review", id)).fields().get("id").equals(id));
        try {
            client.ask(TASK, Map.of("review", "half a pair: \ud83d"));
        } catch (EcellmException error) {
            check(error.code().equals("input"));
        }

        fails("input", () -> client.ask(TASK, Map.of()));
        fails("input", () -> client.ask(TASK, Map.of("review", new Object())));
        fails("usage", () -> client.ask("nonsense", GOOD));
        fails("protocol", () -> client.ask(TASK, GOOD, new Options().maxTokens(3), LIMIT));
        fails("protocol", () -> client.ask(TASK, Map.of("review", "x".repeat(17_000_000))));

        List<CompletableFuture<Answer>> asked = new ArrayList<>();
        rows(300).forEach(row -> asked.add(client.submit(TASK, row, new Options(), LIMIT)));
        asked.subList(100, 300).forEach(future -> future.cancel(true));
        for (CompletableFuture<Answer> future : asked.subList(0, 100)) {
            check(future.get().text() != null);
        }
        check(client.ask(TASK, GOOD).text() != null);

        asksWhileItsSourceWaits(client);
        client.close();
        client.close();
        check(client.restarts() == 0 && !isAlive(pid));
        fails("closed", () -> client.ask(TASK, GOOD));
    }

    /** A result is given while the next row is awaited, at most 256 rows are on their way, and a fault is thrown. */
    private static void asksWhileItsSourceWaits(Client client) throws Exception {
        Semaphore given = new Semaphore(1);
        Iterable<Map<String, Object>> conversation = () -> rows(3).stream().peek(row -> given.acquireUninterruptibly()).iterator();
        int count = 0;
        for (Result result : client.askMany(TASK, conversation, new Options(), LIMIT)) {
            check(result.index() == count++ && result.error() == null);
            given.release();
        }
        check(count == 3);

        AtomicInteger read = new AtomicInteger();
        Iterable<Map<String, Object>> endless = () -> Stream.generate(() -> GOOD).peek(row -> read.incrementAndGet()).iterator();
        Iterator<Result> results = client.askMany(TASK, endless, new Options(), LIMIT).iterator();
        check(results.next().answer() != null);
        Thread.sleep(1000);
        check(read.get() <= 257);

        Iterable<Map<String, Object>> failing = () -> Stream.of(1).<Map<String, Object>>map(number -> {
            throw new ArithmeticException();
        }).iterator();
        fails(ArithmeticException.class, () -> client.askMany(TASK, failing, new Options(), LIMIT).iterator().next());
    }

    private static void die(String[] command) throws Exception {
        Client client = Client.start(new Settings(command));
        eachOnce(collect(client, rows(300), count -> {
            if (count == 20) {
                kill(client.pid());
            }
        }), 300);
        check(client.restarts() == 1);

        kill(client.pid());
        check(client.ask(TASK, GOOD).text() != null);
        check(client.restarts() == 2);

        fails("crashed", () -> client.ask(TASK, Map.of("review", "poison")));
        check(client.ask(TASK, GOOD).text() != null);

        for (Duration limit : List.of(Duration.ofSeconds(Long.MIN_VALUE), Duration.ofMillis(300))) {
            fails("timeout", () -> client.ask(TASK, Map.of("review", "hang"), new Options(), limit));
        }
        kill(client.pid());
        check(client.ask(TASK, GOOD).text() != null);

        CompletableFuture<Answer> hanging = client.submit(TASK, Map.of("review", "hang"), new Options(), LIMIT);
        long pid = client.pid();
        client.close();
        check(hanging.isCompletedExceptionally() && !isAlive(pid));
    }

    private static void start(String[] command) throws Exception {
        fails("model", () -> Client.start(new Settings(with(command, "missing"), false, LIMIT)));
        fails("crashed", () -> Client.start(new Settings(with(command, "crash"), true, LIMIT)));
        fails("crashed", () -> Client.start(new Settings(with(command, "foreign"), true, LIMIT)));
        fails("crashed", () -> Client.start(new Settings(with(command, "never"), true, Duration.ofMillis(300))));
        fails("crashed", () -> Client.start(new Settings("echo", "hello")));
        fails(IllegalArgumentException.class, () -> new Settings(List.of(), true, LIMIT));
        fails("crashed", () -> Client.start(new Settings("/nonsense/ecellm-lite")));
        try {
            Client.start(new Settings("/nonsense/ecellm-lite"));
        } catch (EcellmException error) {
            check(error.getMessage().contains(error.step()));
        }
        Client client = Client.start(new Settings(with(command, "noisy"), false, LIMIT));
        check(client.ask(TASK, GOOD).text() != null);
        // No close: the program ends all the same, and the child with it.
    }

    private static List<Result> collect(Client client, List<Map<String, Object>> rows, IntConsumer seen) {
        List<Result> results = new ArrayList<>();
        for (Result result : client.askMany(TASK, rows, new Options(), LIMIT)) {
            results.add(result);
            seen.accept(results.size());
        }
        results.sort(Comparator.comparing(Result::index));
        return results;
    }

    private static void eachOnce(List<Result> results, int count) {
        check(results.size() == count);
        for (int index = 0; index < count; index++) {
            check(results.get(index).index() == index && results.get(index).answer().fields().get("id").equals((long) index));
        }
    }

    private static List<Map<String, Object>> rows(int count) {
        List<Map<String, Object>> rows = new ArrayList<>();
        IntStream.range(0, count).forEach(number -> rows.add(new HashMap<>(Map.of("id", number, "review", "row " + number))));
        return rows;
    }

    private static List<String> with(String[] command, String how) {
        List<String> longer = new ArrayList<>(List.of(command));
        longer.add(how);
        return longer;
    }

    private static void kill(long pid) {
        ProcessHandle.of(pid).ifPresent(ProcessHandle::destroyForcibly);
    }

    private static boolean isAlive(long pid) {
        return ProcessHandle.of(pid).map(ProcessHandle::isAlive).orElse(false);
    }

    private static void fails(String code, Callable<?> asking) throws Exception {
        try {
            asking.call();
        } catch (EcellmException error) {
            check(error.code().equals(code) && error.getMessage() != null);
            return;
        }
        throw new AssertionError("it did not fail: " + code);
    }

    private static void fails(Class<? extends Exception> kind, Callable<?> work) {
        try {
            work.call();
        } catch (Exception error) {
            check(kind.isInstance(error));
            return;
        }
        throw new AssertionError("it did not fail");
    }

    private static void check(boolean holds) {
        if (!holds) {
            throw new AssertionError();
        }
    }
}
