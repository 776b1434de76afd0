package ecellmlite;

import java.io.IOException;
import java.io.OutputStream;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** A child process, and the lines that are on their way to it: whoever asks never waits for a full pipe. */
final class Child {
    private static final byte[] END = {};

    final Process process;
    final BlockingQueue<byte[]> lines = new LinkedBlockingQueue<>();
    volatile boolean isReady;
    volatile boolean hasAnswered;
    volatile EcellmException failure; // why it had to go

    Child(Process process) {
        this.process = process;
    }

    /** Write the lines to the child's standard input until it is to end. */
    void write() {
        try (OutputStream output = process.getOutputStream()) {
            for (byte[] line; (line = lines.take()) != END; ) {
                output.write(line);
                if (lines.isEmpty()) {
                    output.flush();
                }
            }
        } catch (IOException | InterruptedException error) {
            // It is gone, as the thread that reads finds out too.
        }
    }

    /** End it at once, since something is wrong with it. */
    void dismiss(String why) {
        if (failure == null) {
            failure = new EcellmException("crashed", why);
        }
        process.destroyForcibly();
    }

    /** Let it end by itself for so many seconds, then kill it. */
    void end(int seconds) {
        lines.add(END);
        try {
            if (!process.waitFor(seconds, TimeUnit.SECONDS)) {
                process.destroyForcibly().waitFor();
            }
        } catch (InterruptedException error) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
    }
}
