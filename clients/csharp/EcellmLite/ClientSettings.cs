namespace EcellmLite;

/// <summary>How a child is started.</summary>
public sealed record ClientSettings
{
    private readonly IReadOnlyList<string> _command = ["ecellm-lite", "pipe"];
    private readonly TimeSpan _startLimit = TimeSpan.FromMinutes(10);

    /// <summary><c>ecellm-lite pipe</c>, where needed with a path and options.</summary>
    public IReadOnlyList<string> Command
    {
        get => _command;
        init => _command = value.Count > 0
            ? [.. value]
            : throw new ArgumentException("The command is empty: give a program, such as ecellm-lite pipe.", nameof(Command));
    }

    /// <summary>Whether what it says to people goes to this program's standard error.</summary>
    public bool ShowMessages { get; init; } = true;

    /// <summary>How long the model may take to load.</summary>
    public TimeSpan StartLimit
    {
        get => _startLimit;
        init => _startLimit = TimeLimit.Check(value, nameof(StartLimit));
    }
}

/// <summary>Time limits as .NET's timers take them.</summary>
internal static class TimeLimit
{
    private static readonly TimeSpan Longest = TimeSpan.FromMilliseconds(uint.MaxValue - 1); // some 49 days

    /// <summary>Return a limit that timers take; one that is too long for them is none.</summary>
    public static TimeSpan Check(TimeSpan limit, string name)
    {
        if (limit > Longest) return Timeout.InfiniteTimeSpan;
        if (limit >= TimeSpan.Zero || limit == Timeout.InfiniteTimeSpan) return limit;
        throw new ArgumentOutOfRangeException(name, limit, "Give a limit of 0 or more, or Timeout.InfiniteTimeSpan.");
    }
}
