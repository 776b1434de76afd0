package ecellmlite;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Asks ecellm-lite from Java. A client starts {@code ecellm-lite pipe}, speaks its protocol (docs/pipe.md), starts it
 * again when it dies, and asks it again what it had not answered. Any number of threads may use it.
 *
 * <p>A task is its name, the path of its file, or a question: a map of its type, instructions, choices or levels.
 */
public final class Client implements AutoCloseable {
    private static final Long PROTOCOL = 1L;
    private static final int DEATHS = 2; // of children, that fail a request that they had
    private static final int STARTS = 3; // that fail in a row, and with them all requests that wait
    private static final int FAREWELL = 5; // seconds that a child has to end by itself
    private static final Duration MINUTE = Duration.ofMinutes(1);
    private static final Duration LONGEST = Duration.ofMillis(Long.MAX_VALUE);

    private final Settings settings;
    private final AtomicLong lastId = new AtomicLong();
    private final CompletableFuture<Void> started = new CompletableFuture<>();
    // What follows is guarded by this object's lock, under which nothing waits and no future is completed.
    private final Map<Long, Request> open = new LinkedHashMap<>(); // a child that is ready has been sent all of them
    private Child child; // null while there is none
    private Map<?, ?> ready;
    private int restarts;
    private int failedStarts; // in a row
    private boolean isClosed;

    /** Start a child, and wait until its model is loaded; throws what the start failed with. */
    public static Client start(Settings settings) {
        Client client = new Client(settings);
        try {
            client.startChild();
            result(client.started);
        } catch (RuntimeException error) {
            client.close();
            throw error;
        }
        return client;
    }

    private Client(Settings settings) {
        this.settings = settings;
    }

    /** Return what the child says of itself: version, model, tasks, limits. */
    public synchronized Map<?, ?> ready() {
        return ready;
    }

    /** Return how often the child was started again. */
    public synchronized int restarts() {
        return restarts;
    }

    /** Return the child's process number; -1 while there is none. */
    public synchronized long pid() {
        return child == null ? -1 : child.process.pid();
    }

    /** Return the answer to one row, within a minute; throws an EcellmException, also for a row that is wrong. */
    public Answer ask(Object task, Map<String, ?> row) {
        return ask(task, row, new Options(), MINUTE);
    }

    /** Return the answer to one row, within a time limit; throws an EcellmException, also for a row that is wrong. */
    public Answer ask(Object task, Map<String, ?> row, Options options, Duration limit) {
        return result(submit(task, row, options, limit));
    }

    /**
     * Return the answer to come. Cancelling it, or the time limit, cancels the request. What is chained to it runs on
     * the thread that reads the child's answers, and must not wait for another one.
     */
    public CompletableFuture<Answer> submit(Object task, Map<String, ?> row, Options options, Duration limit) {
        long milliseconds = milliseconds(limit);
        Request request = new Request(lastId.incrementAndGet());
        try {
            String values = ",\"row\":" + Json.write(row) + ",\"options\":" + Json.write(options.values());
            request.line = line("{\"id\":" + request.id + ",\"task\":" + Json.write(task) + values + "}");
            ask(request);
        } catch (IllegalArgumentException error) {
            request.future.completeExceptionally(new EcellmException("input", error.getMessage()));
        } catch (EcellmException error) {
            request.future.completeExceptionally(error);
        }
        request.future.whenComplete((answer, error) -> withdraw(request));
        return request.future.orTimeout(milliseconds, TimeUnit.MILLISECONDS);
    }

    /**
     * Return one result for each row, as they finish; a row has the time limit from when it is sent. Rows are read on a
     * thread of their own, and at most 256 are on their way at once.
     */
    public Iterable<Result> askMany(Object task, Iterable<? extends Map<String, ?>> rows, Options options, Duration limit) {
        return () -> new Results(rows.iterator(), row -> submit(task, row, options, limit));
    }

    /** End the child; requests without an answer fail with the code {@code closed}. A second call does nothing. */
    @Override
    public void close() {
        Child last;
        List<Request> abandoned;
        synchronized (this) {
            isClosed = true;
            last = child;
            abandoned = new ArrayList<>(open.values());
            open.clear();
        }
        abandoned.forEach(request -> request.future.completeExceptionally(closed()));
        if (last != null) {
            last.end(abandoned.isEmpty() && last.isReady ? FAREWELL : 0);
        }
    }

    private synchronized void ask(Request request) {
        if (isClosed) {
            throw closed();
        }
        Object longest = ((Map<?, ?>) ready.get("limits")).get("line_bytes");
        if (request.line.length > (Long) longest) {
            throw new EcellmException("protocol", "The request has more than " + longest + " bytes: send a shorter row.");
        }
        if (child == null) {
            restart();
        }
        open.put(request.id, request);
        send(request.line);
    }

    /** Tell the child that nobody waits for a request any more, if that is so. */
    private synchronized void withdraw(Request request) {
        if (open.remove(request.id) != null) {
            send(line("{\"id\":" + request.id + ",\"type\":\"cancel\"}"));
        }
    }

    /** Send a line; a child that is not ready gets the open requests when it is. */
    private void send(byte[] line) {
        if (child != null && child.isReady) {
            child.lines.add(line);
        }
    }

    private void restart() {
        restarts++;
        startChild();
    }

    private synchronized void startChild() {
        long limit = milliseconds(settings.startLimit());
        ProcessBuilder builder = new ProcessBuilder(settings.command());
        builder.redirectError(settings.showMessages() ? ProcessBuilder.Redirect.INHERIT : ProcessBuilder.Redirect.DISCARD);
        try {
            child = new Child(builder.start());
        } catch (IOException | RuntimeException error) {
            throw EcellmException.ofStart(error.getMessage());
        }
        Child started = child;
        thread("writer", started::write);
        thread("reader", () -> read(started));
        CompletableFuture.delayedExecutor(limit, TimeUnit.MILLISECONDS).execute(() -> {
            if (!started.isReady) {
                started.dismiss("The child process was not ready in " + limit + " ms.");
            }
        });
    }

    private void read(Child source) {
        try (BufferedReader lines = source.process.inputReader(StandardCharsets.US_ASCII)) {
            for (String line; (line = lines.readLine()) != null; ) {
                received(source, (Map<?, ?>) Json.read(line));
            }
        } catch (IOException | RuntimeException error) {
            source.dismiss("The child process wrote a line that is not a message: " + error.getMessage());
        }
        ended(source);
    }

    private void received(Child source, Map<?, ?> message) {
        Object type = message.get("type");
        Object id = message.get("id");
        Request request = null;
        synchronized (this) {
            if ("ready".equals(type)) {
                if (!PROTOCOL.equals(message.get("protocol"))) {
                    throw new IllegalArgumentException("it is of protocol " + message.get("protocol"));
                }
                ready = message;
                source.isReady = true;
                open.values().forEach(waiting -> send(waiting.line));
            } else if (id == null && !source.isReady) {
                source.failure = EcellmException.of((Map<?, ?>) message.get("error")); // it does not start
            } else {
                request = open.remove(id);
                source.hasAnswered |= "answer".equals(type);
            }
        }
        if (source.isReady) {
            started.complete(null);
        }
        if (request != null) {
            request.settle(message);
        }
    }

    /** The child is gone, and all that it wrote was read. What it had is asked again, once. */
    private void ended(Child last) {
        last.end(1);
        last.dismiss("The child process died (exit code " + last.process.exitValue() + ").");
        EcellmException error = last.failure;
        List<Request> lost = new ArrayList<>();
        synchronized (this) {
            child = null;
            failedStarts = last.isReady ? 0 : failedStarts + 1;
            open.values().removeIf(request -> {
                request.deaths += last.isReady ? 1 : 0;
                return (request.deaths >= DEATHS || failedStarts >= STARTS) && lost.add(request);
            });
            // No endless loop: each restart costs an answer, a failed start, or a request one of its deaths.
            if (!isClosed && (!open.isEmpty() || last.hasAnswered)) {
                try {
                    restart();
                } catch (EcellmException failure) {
                    error = failure;
                    lost.addAll(open.values());
                    open.clear();
                }
            }
        }
        started.completeExceptionally(error);
        for (Request request : lost) {
            request.future.completeExceptionally(error);
        }
    }

    private static <T> T result(CompletableFuture<T> future) {
        try {
            return future.get();
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            future.cancel(true);
            throw EcellmException.of(new CancellationException());
        } catch (ExecutionException | CancellationException error) {
            throw EcellmException.of(error);
        }
    }

    /** Return a time limit in milliseconds; one that has too many is as long as a limit gets. */
    private static long milliseconds(Duration limit) {
        return limit.compareTo(LONGEST) > 0 ? Long.MAX_VALUE : limit.isNegative() ? 0 : limit.toMillis();
    }

    private static EcellmException closed() {
        return new EcellmException("closed", "The client is closed.");
    }

    private static byte[] line(String message) {
        return (message + "\n").getBytes(StandardCharsets.US_ASCII);
    }

    private static void thread(String name, Runnable work) {
        Thread thread = new Thread(work, "ecellm-lite " + name);
        thread.setDaemon(true);
        thread.start();
    }
}
