package ecellmlite;

import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.TimeoutException;

/**
 * Why there is no answer. The codes are those of docs/pipe.md; the client's own are {@code cancelled}, {@code timeout},
 * {@code closed} (the client is closed) and {@code crashed} (two child processes died while they had the request).
 */
public final class EcellmException extends RuntimeException {
    private static final long serialVersionUID = 1;

    private final String code;
    private final String field;
    private final String step;

    EcellmException(String code, String message) {
        this(code, message, null, null, null);
    }

    private EcellmException(String code, String message, String field, String step, Throwable cause) {
        super(message, cause);
        this.code = code;
        this.field = field;
        this.step = step;
    }

    /** A program that does not run, for this reason. */
    static EcellmException ofStart(String reason) {
        String step = "give the path of ecellm-lite as the command, if it is not on the PATH";
        return new EcellmException("crashed", reason + ": " + step + ".", null, step, null);
    }

    /** The error of a message or of an answer. */
    static EcellmException of(Map<?, ?> error) {
        String code = (String) error.get("code");
        String message = (String) error.get("message");
        return new EcellmException(code, message, (String) error.get("field"), (String) error.get("step"), null);
    }

    /** What a future failed with, thrown where its answer is waited for. */
    static EcellmException of(Throwable failure) {
        Throwable cause = failure.getCause() == null ? failure : failure.getCause();
        if (cause instanceof EcellmException error) {
            return new EcellmException(error.code, error.getMessage(), error.field, error.step, error);
        } else if (cause instanceof TimeoutException) {
            return new EcellmException("timeout", "There was no answer in time.");
        } else if (cause instanceof CancellationException) {
            return new EcellmException("cancelled", "The request was cancelled.");
        }
        return new EcellmException("internal", "A fault of the client: " + cause, null, null, cause);
    }

    /** For programs, as {@code input} or {@code deadline}. */
    public String code() {
        return code;
    }

    /** The place in the row or request, or null. */
    public String field() {
        return field;
    }

    /** The part of the message that says what to do, or null. */
    public String step() {
        return step;
    }
}
