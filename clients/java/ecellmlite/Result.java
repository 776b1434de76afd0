package ecellmlite;

/** What became of one of many rows: {@code index} is its place, from 0; either the answer or the error is null. */
public record Result(int index, Answer answer, EcellmException error) {}
