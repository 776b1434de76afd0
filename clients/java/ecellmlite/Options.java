package ecellmlite;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What can be settled for each request; docs/pipe.md has the list. {@code new Options().deadlineMs(500).urgent()}. */
public final class Options {
    private final Map<String, Object> values = new LinkedHashMap<>();

    /** In place of the task's own. */
    public Options instruction(String instruction) {
        return with("instruction", instruction);
    }

    /** Cut a row that is too long; the answer says what was cut. */
    public Options shorten() {
        return with("shorten", true);
    }

    /** Abstain below it. */
    public Options minProbability(double probability) {
        return with("min_probability", probability);
    }

    /** The path of a calibration file. */
    public Options calibration(String path) {
        return with("calibration", path);
    }

    /** The model's own probabilities. */
    public Options uncalibrated() {
        return with("calibration", false);
    }

    /** The answer is an object by this JSON schema. */
    public Options schema(Map<String, ?> schema) {
        return with("schema", schema);
    }

    /** The answer is a text by this grammar, in GBNF or Lark. */
    public Options grammar(String grammar) {
        return with("grammar", grammar);
    }

    /** The most tokens of a text. */
    public Options maxTokens(int tokens) {
        return with("max_tokens", tokens);
    }

    /** How freely a text is chosen; 0 is always the likeliest. */
    public Options temperature(double temperature) {
        return with("temperature", temperature);
    }

    /** The same text again, where the temperature is above 0. */
    public Options seed(long seed) {
        return with("seed", seed);
    }

    /** The name of an adapter that the pipe was started with. */
    public Options adapter(String name) {
        return with("adapter", name);
    }

    /** Texts that end a text. */
    public Options stop(List<String> texts) {
        return with("stop", texts);
    }

    /** A text's value is an object with each token's log-probability, and so many alternatives. */
    public Options logprobs(int alternatives) {
        return with("logprobs", alternatives);
    }

    /** An answer within so many milliseconds, or the error {@code deadline}. */
    public Options deadlineMs(double milliseconds) {
        return with("deadline_ms", milliseconds);
    }

    /** Before all rows that wait and are not urgent. */
    public Options urgent() {
        return with("priority", "urgent");
    }

    Map<String, Object> values() {
        return values;
    }

    private Options with(String name, Object value) {
        values.put(name, value);
        return this;
    }
}
