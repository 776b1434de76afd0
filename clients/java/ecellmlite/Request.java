package ecellmlite;

import java.util.Map;
import java.util.concurrent.CompletableFuture;

/** A request without an answer; {@code deaths} counts the children that had it and died. */
final class Request {
    final long id;
    final CompletableFuture<Answer> future = new CompletableFuture<>();
    byte[] line;
    int deaths;

    Request(long id) {
        this.id = id;
    }

    /** End it as a message of its id says: an answer, an error, or that it was cancelled. */
    @SuppressWarnings("unchecked")
    void settle(Map<?, ?> message) {
        Map<String, Object> answer = (Map<String, Object>) message.get("answer");
        Object error = (answer != null ? answer : message).get("error");
        if (error != null) {
            future.completeExceptionally(EcellmException.of((Map<?, ?>) error));
        } else if (answer != null) {
            future.complete(Answer.of(answer));
        } else {
            future.cancel(false);
        }
    }
}
