using System.Text.Json;

namespace EcellmLite;

/// <summary>What can be settled for each request; docs/pipe.md says what each option means.</summary>
public sealed record Options
{
    /// <summary>In place of the task's own.</summary>
    public string? Instruction { get; init; }

    /// <summary>Cut a row that is too long; the answer says what was cut.</summary>
    public bool? Shorten { get; init; }

    /// <summary>Abstain below it.</summary>
    public double? MinProbability { get; init; }

    /// <summary>The path of a calibration file, <c>"auto"</c>, or <c>false</c> for none.</summary>
    public object? Calibration { get; init; }

    /// <summary>The answer is an object by this JSON schema, as an object or a JsonElement.</summary>
    public object? Schema { get; init; }

    /// <summary>The answer is a text by this grammar, in GBNF or Lark.</summary>
    public string? Grammar { get; init; }

    /// <summary>The most tokens of a text.</summary>
    public int? MaxTokens { get; init; }

    /// <summary>How freely a text is chosen; 0 is always the likeliest.</summary>
    public double? Temperature { get; init; }

    /// <summary>The same text again, where the temperature is above 0.</summary>
    public uint? Seed { get; init; }

    /// <summary>Texts that end a text.</summary>
    public IReadOnlyList<string>? Stop { get; init; }

    /// <summary>A text's value is an object with each token's log-probability, and so many alternatives.</summary>
    public int? Logprobs { get; init; }

    /// <summary>An answer within so many milliseconds, or the error <c>deadline</c>; for the engine, from its reading on.</summary>
    public double? DeadlineMs { get; init; }

    /// <summary><c>"urgent"</c>: before all rows that wait and are not.</summary>
    public string? Priority { get; init; }

    /// <summary>The name of an adapter that the pipe was started with.</summary>
    public string? Adapter { get; init; }
}

/// <summary>The answer to one row; docs/answers.md says what each field means.</summary>
public sealed record Answer(
    JsonElement Id,
    string Task,
    string? Type,
    JsonElement Value,
    string? Text,
    double? Probability,
    IReadOnlyDictionary<string, double>? Probabilities,
    double? Confidence,
    double? Coverage,
    bool Abstained,
    Usage? Usage,
    double? Seconds,
    ModelName Model,
    string Envelope,
    string? Calibration,
    IReadOnlyList<string>? Plausible,
    double? Unexplored,
    string? Shortened,
    IReadOnlyList<Warning>? Warnings);

/// <summary>Tokens of the prompt, of its cached part, and of the answer: chosen, forced, and all of a written one.</summary>
public sealed record Usage(int PromptTokens, int? CachedTokens, int DecodedTokens, int ForcedTokens, int AnswerTokens);

/// <summary>Which weights answered.</summary>
public sealed record ModelName(string Name, string Sha256, AdapterName? Adapter = null);

/// <summary>Which adapter answered.</summary>
public sealed record AdapterName(string Name, string Sha256);

/// <summary>Something odd about an answer that was still given.</summary>
public sealed record Warning(string Code, string Message);

/// <summary>What became of one of many rows, by its place from 0; either the answer or the error is null.</summary>
public sealed record Result(int Index, Answer? Answer, EcellmException? Error);

/// <summary>What the child says of itself.</summary>
public sealed record Ready(
    int Protocol,
    string Version,
    LoadedModel Model,
    IReadOnlyList<string> Tasks,
    IReadOnlyDictionary<string, string>? Adapters,
    Limits Limits);

/// <summary>The model that the child has.</summary>
public sealed record LoadedModel(string Name, string Sha256, string Envelope);

/// <summary>How long a line may be, and how many requests, of how many bytes, may have no answer that was read.</summary>
public sealed record Limits(int LineBytes, int Requests, long RequestBytes);

/// <summary>
/// Why there is no answer. The codes are those of docs/pipe.md; the client's own are <c>timeout</c>, <c>closed</c> (the
/// client is closed) and <c>crashed</c> (two child processes died while they had the request).
/// </summary>
public sealed class EcellmException(string code, string message, string? field = null, string? step = null)
    : Exception(message)
{
    /// <summary>For programs, as <c>input</c> or <c>deadline</c>.</summary>
    public string Code { get; } = code;

    /// <summary>The place in the row or request.</summary>
    public string? Field { get; } = field;

    /// <summary>The part of the message that says what to do.</summary>
    public string? Step { get; } = step;

    internal static EcellmException Of(JsonElement error) => new(
        error.GetProperty("code").GetString()!,
        error.GetProperty("message").GetString()!,
        error.GetProperty("field").GetString(),
        error.GetProperty("step").GetString());
}
