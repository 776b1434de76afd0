package ecellmlite;

import java.lang.ref.Cleaner;
import java.util.Iterator;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.function.Function;

/**
 * The results of many rows as they finish. A thread reads the rows, so that a result never waits for the next row; at
 * most WINDOW rows are read whose results were not taken.
 */
final class Results implements Iterator<Result> {
    private static final int WINDOW = 256;
    private static final Cleaner CLEANER = Cleaner.create();

    private final Reader reader;
    private Result next; // null while it was not waited for
    private End end; // null while rows may follow
    private int given;

    Results(Iterator<? extends Map<String, ?>> rows, Function<Map<String, ?>, CompletableFuture<Answer>> ask) {
        reader = new Reader(rows, ask);
        Thread thread = new Thread(reader, "ecellm-lite rows");
        thread.setDaemon(true);
        thread.start();
        CLEANER.register(this, thread::interrupt); // who breaks off the loop takes no more results
    }

    @Override
    public boolean hasNext() {
        try {
            while (next == null && (end == null || given < end.asked)) {
                Object event = reader.events.take(); // each row has a time limit, and so has this
                if (event instanceof Result result) {
                    next = result;
                    given++;
                    reader.room.release();
                } else {
                    end = (End) event;
                    end.raise();
                }
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new EcellmException("cancelled", "The thread was interrupted.");
        }
        return next != null;
    }

    @Override
    public Result next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        Result result = next;
        next = null;
        return result;
    }

    /** The end of the rows: how many were asked, and what reading them failed with, or null. */
    private record End(int asked, Throwable failure) {
        void raise() {
            if (failure instanceof RuntimeException error) {
                throw error;
            } else if (failure instanceof Error error) {
                throw error;
            }
        }
    }

    /** Asks the rows, and has no reference to the Results, which may be forgotten. */
    private static final class Reader implements Runnable {
        private final Iterator<? extends Map<String, ?>> rows;
        private final Function<Map<String, ?>, CompletableFuture<Answer>> ask;
        private final BlockingQueue<Object> events = new LinkedBlockingQueue<>(); // results, and one End
        private final Semaphore room = new Semaphore(WINDOW);
        private int asked;

        Reader(Iterator<? extends Map<String, ?>> rows, Function<Map<String, ?>, CompletableFuture<Answer>> ask) {
            this.rows = rows;
            this.ask = ask;
        }

        @Override
        public void run() {
            Throwable failure = null;
            try {
                for (room.acquire(); rows.hasNext(); room.acquire()) {
                    Map<String, ?> row = rows.next();
                    int index = asked++;
                    ask.apply(row).whenComplete((answer, error) ->
                            events.add(new Result(index, answer, error == null ? null : EcellmException.of(error))));
                }
            } catch (InterruptedException error) {
                // Nobody takes the results any more.
            } catch (RuntimeException | Error error) {
                failure = error;
            }
            events.add(new End(asked, failure));
        }
    }
}
