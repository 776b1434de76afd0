package ecellmlite;

import java.util.Map;

/**
 * The answer to one row; docs/answers.md says what each field means.
 *
 * @param task what was asked
 * @param type predicate, choice, labels, score, ranking, extraction, text or schema
 * @param value what to decide by: a Boolean, an option's letter, the value of an option of your own, letters best first,
 *     maps of extracted values, a text: by the type; null if abstained
 * @param text what the model wrote, for people, such as {@code B: positive}, but a bare letter if the options are your
 *     own; null if abstained
 * @param probability of this answer among those allowed; null where they cannot be counted
 * @param confidence 0 is a guess, 1 is certain; null where the answers cannot be counted
 * @param abstained whether the model was not sure enough
 * @param fields the whole answer, with what has no accessor here: probabilities, coverage, usage, warnings and more
 */
public record Answer(
        String task,
        String type,
        Object value,
        String text,
        Double probability,
        Double confidence,
        boolean abstained,
        Map<String, Object> fields) {

    static Answer of(Map<String, Object> fields) {
        return new Answer(
                (String) fields.get("task"),
                (String) fields.get("type"),
                fields.get("value"),
                (String) fields.get("text"),
                number(fields.get("probability")),
                number(fields.get("confidence")),
                Boolean.TRUE.equals(fields.get("abstained")),
                fields);
    }

    private static Double number(Object value) {
        return value instanceof Number number ? number.doubleValue() : null;
    }
}
