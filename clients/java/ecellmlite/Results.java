package ecellmlite;

import java.util.Iterator;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Function;

/** The results of many rows as they finish. Rows are read as results are taken, and at most WINDOW are on their way. */
final class Results implements Iterator<Result> {
    private static final int WINDOW = 256;

    private final Iterator<? extends Map<String, ?>> rows;
    private final Function<Map<String, ?>, CompletableFuture<Answer>> ask;
    private final BlockingQueue<Result> finished = new LinkedBlockingQueue<>();
    private int asked;
    private int given;

    Results(Iterator<? extends Map<String, ?>> rows, Function<Map<String, ?>, CompletableFuture<Answer>> ask) {
        this.rows = rows;
        this.ask = ask;
    }

    @Override
    public boolean hasNext() {
        return given < asked || rows.hasNext();
    }

    @Override
    public Result next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        while (asked - given < WINDOW && rows.hasNext()) {
            int index = asked++;
            ask.apply(rows.next()).whenComplete((answer, error) ->
                    finished.add(new Result(index, answer, error == null ? null : EcellmException.of(error))));
        }
        try {
            given++;
            return finished.take(); // each row has a time limit, and so has this
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new EcellmException("cancelled", "The thread was interrupted.");
        }
    }
}
