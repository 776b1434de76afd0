using System.Text.Json;
using System.Text.Json.Serialization;

namespace EcellmLite;

/// <summary>
/// Asks ecellm-lite from .NET. A client starts <c>ecellm-lite pipe</c>, speaks its protocol (docs/pipe.md), starts it
/// again when it dies, and asks it again what it had not answered. Any number of threads may use it. A task is its name,
/// the path of its file, or a question: an object with its type, instructions, choices or levels.
/// </summary>
public sealed class EcellmClient : IAsyncDisposable
{
    private const int Protocol = 1;
    private const int Deaths = 2; // of children, that fail a request that they had
    private const int Starts = 3; // that fail in a row, and with them all requests that wait
    private static readonly TimeSpan Farewell = TimeSpan.FromSeconds(5); // that a child has to end by itself
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    };

    private readonly ClientSettings _settings;
    private readonly TaskCompletionSource _started = new(TaskCreationOptions.RunContinuationsAsynchronously);

    // What follows is guarded by this lock, under which nothing waits.
    private readonly object _lock = new();
    private readonly Dictionary<long, Request> _open = []; // a child that is ready has been sent all of them
    private Child? _child;
    private Ready? _ready;
    private long _lastId;
    private int _restarts;
    private int _failedStarts; // in a row
    private bool _isClosed;

    private EcellmClient(ClientSettings settings) => _settings = settings;

    /// <summary>What the child says of itself.</summary>
    public Ready Ready
    {
        get { lock (_lock) return _ready!; }
    }

    /// <summary>How often the child was started again.</summary>
    public int Restarts
    {
        get { lock (_lock) return _restarts; }
    }

    /// <summary>The child's process number; null while there is none.</summary>
    public int? ProcessId
    {
        get { lock (_lock) return _child?.Program.Id; }
    }

    /// <summary>
    /// Start a child, and wait until its model is loaded; throws what the start failed with. The token ends the child.
    /// </summary>
    public static async Task<EcellmClient> StartAsync(ClientSettings? settings = null, CancellationToken cancel = default)
    {
        cancel.ThrowIfCancellationRequested();
        var client = new EcellmClient(settings ?? new ClientSettings());
        try
        {
            lock (client._lock) client.StartChild();
            await client._started.Task.WaitAsync(cancel).ConfigureAwait(false);
            return client;
        }
        catch
        {
            await client.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>
    /// Return the answer to one row, within a time limit (a minute if left out). Throws an EcellmException, also for a
    /// row that is wrong, and an OperationCanceledException if the token is cancelled. Both the time limit and the token
    /// cancel the request.
    /// </summary>
    public async Task<Answer> AskAsync(
        object task,
        IReadOnlyDictionary<string, object?> row,
        Options? options = null,
        TimeSpan? limit = null,
        CancellationToken cancel = default)
    {
        cancel.ThrowIfCancellationRequested();
        var patience = TimeLimit.Check(limit ?? TimeSpan.FromMinutes(1), nameof(limit));
        var request = Ask(task, row, options ?? new Options());
        try
        {
            return await request.Answer.Task.WaitAsync(patience, cancel).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw new EcellmException("timeout", "There was no answer in time.");
        }
        finally
        {
            Withdraw(request);
        }
    }

    /// <summary>
    /// Yield one result for each row, as they finish; a row has the time limit (ten minutes if left out) from when it is
    /// sent. At most 256 rows are on their way at once. Breaking off the loop cancels them.
    /// </summary>
    public IAsyncEnumerable<Result> AskManyAsync(
        object task,
        IEnumerable<IReadOnlyDictionary<string, object?>> rows,
        Options? options = null,
        TimeSpan? limit = null,
        CancellationToken cancel = default) => AskManyAsync(task, Results.Awaitable(rows), options, limit, cancel);

    /// <summary>The same for rows that are awaited. A row may wait for the result of an earlier one.</summary>
    public IAsyncEnumerable<Result> AskManyAsync(
        object task,
        IAsyncEnumerable<IReadOnlyDictionary<string, object?>> rows,
        Options? options = null,
        TimeSpan? limit = null,
        CancellationToken cancel = default)
    {
        var patience = TimeLimit.Check(limit ?? TimeSpan.FromMinutes(10), nameof(limit));
        return Results.AsTheyFinish(rows, (row, stop) => AskAsync(task, row, options, patience, stop), cancel);
    }

    /// <summary>End the child; requests without an answer fail with the code <c>closed</c>. A second call does nothing.</summary>
    public async ValueTask DisposeAsync()
    {
        Child? last;
        Request[] abandoned;
        lock (_lock)
        {
            _isClosed = true;
            last = _child;
            abandoned = [.. _open.Values];
            _open.Clear();
        }
        foreach (var request in abandoned) request.Answer.TrySetException(Closed());
        if (last is not null)
        {
            await last.EndAsync(abandoned.Length == 0 && last.IsReady ? Farewell : TimeSpan.Zero).ConfigureAwait(false);
        }
    }

    private Request Ask(object task, IReadOnlyDictionary<string, object?> row, Options options)
    {
        var id = Interlocked.Increment(ref _lastId);
        string line;
        try
        {
            line = JsonSerializer.Serialize(new { Id = id, Task = task, Row = row, Options = options }, Json);
        }
        catch (Exception error) when (error is NotSupportedException or ArgumentException or JsonException)
        {
            throw new EcellmException("input", $"The row has no form in JSON: {error.Message}", "row");
        }
        var request = new Request(id, line);
        lock (_lock)
        {
            if (_isClosed) throw Closed();
            if (line.Length > _ready!.Limits.LineBytes) // it is ASCII
            {
                throw new EcellmException("protocol", $"The request has {line.Length} bytes: send a shorter row.", "row");
            }
            if (_child is null) Restart();
            _open.Add(id, request);
            Send(line);
        }
        return request;
    }

    /// <summary>Tell the child that nobody waits for a request any more, if that is so.</summary>
    private void Withdraw(Request request)
    {
        lock (_lock)
        {
            if (_open.Remove(request.Id)) Send($$"""{"id": {{request.Id}}, "type": "cancel"}""");
        }
    }

    /// <summary>Send a line; a child that is not ready gets the open requests when it is.</summary>
    private void Send(string line)
    {
        if (_child is { IsReady: true }) _child.Lines.Writer.TryWrite(line);
    }

    private void Restart()
    {
        _restarts++;
        StartChild();
    }

    private void StartChild()
    {
        var child = _child = Child.Start(_settings);
        _ = Task.Run(() => ReadAsync(child));
    }

    private async Task ReadAsync(Child child)
    {
        try
        {
            using var output = child.Program.StandardOutput;
            while (await output.ReadLineAsync().ConfigureAwait(false) is { } line)
            {
                using var message = JsonDocument.Parse(line);
                Received(child, message.RootElement);
            }
        }
        catch (Exception error) // what it says is no message, or it is gone
        {
            child.Dismiss($"wrote a line that is not a message: {error.Message}");
        }
        await EndedAsync(child).ConfigureAwait(false);
    }

    private void Received(Child child, JsonElement message)
    {
        var type = message.GetProperty("type").GetString();
        Request? request = null;
        lock (_lock)
        {
            if (type == "ready")
            {
                if (message.GetProperty("protocol").GetInt32() != Protocol) throw new JsonException("it is of another protocol");
                _ready = message.Deserialize<Ready>(Json);
                child.Ready();
                foreach (var waiting in _open.Values.OrderBy(waiting => waiting.Id)) Send(waiting.Line);
            }
            else if (message.GetProperty("id") is { ValueKind: JsonValueKind.Number } id)
            {
                _open.Remove(id.GetInt64(), out request);
                child.HasAnswered |= type == "answer";
            }
            else if (!child.IsReady)
            {
                child.Failure = EcellmException.Of(message.GetProperty("error")); // it does not start
            }
        }
        if (type == "ready") _started.TrySetResult();
        request?.Settle(message, Json);
    }

    /// <summary>The child is gone, and all that it wrote was read. What it had is asked again, once.</summary>
    private async Task EndedAsync(Child child)
    {
        await child.EndAsync(TimeSpan.FromSeconds(1)).ConfigureAwait(false);
        child.Dismiss($"died (exit code {child.Program.ExitCode})");
        var error = child.Failure!;
        List<Request> lost = [];
        lock (_lock)
        {
            _child = null;
            _failedStarts = child.IsReady ? 0 : _failedStarts + 1;
            foreach (var request in _open.Values)
            {
                if (child.IsReady) request.Deaths++;
                if (request.Deaths >= Deaths || _failedStarts >= Starts) lost.Add(request);
            }
            foreach (var request in lost) _open.Remove(request.Id);
            // No endless loop: each restart costs an answer, a failed start, or a request one of its deaths.
            if (!_isClosed && (_open.Count > 0 || child.HasAnswered))
            {
                try
                {
                    Restart();
                }
                catch (EcellmException failure)
                {
                    error = failure;
                    lost.AddRange(_open.Values);
                    _open.Clear();
                }
            }
        }
        if (!_isClosed) _started.TrySetException(error); // otherwise nobody awaits it any more
        foreach (var request in lost) request.Answer.TrySetException(error);
    }

    private static EcellmException Closed() => new("closed", "The client is closed.");
}
