// Check talk|die|start|wait COMMAND...: the client for C# against the pipe over the fake engine.
using System.Diagnostics;
using System.Text.Json;
using EcellmLite;
using Row = System.Collections.Generic.IReadOnlyDictionary<string, object?>;

const string task = "sentiment_analysis";
var command = args[1..];
var good = Review("It works.");
TaskScheduler.UnobservedTaskException += (_, unobserved) => Environment.FailFast(unobserved.Exception.ToString());
await (args[0] switch
{
    "talk" => Talk(),
    "die" => Die(),
    "start" => Start(),
    "wait" => Wait(),
    _ => throw new ArgumentException(args[0]),
});
GC.Collect();
GC.WaitForPendingFinalizers();

async Task Talk()
{
    var client = await EcellmClient.StartAsync(new ClientSettings { Command = command, StartLimit = TimeSpan.MaxValue });
    var pid = client.ProcessId!.Value;
    Check(client.Ready.Tasks.Contains(task) && client.Ready.Model.Envelope != "" && client.Ready.Limits.LineBytes > 0);
    var answer = await client.AskAsync(task, good, new Options { Calibration = false, Priority = "urgent" });
    Check(answer.Probability is > 0 and <= 1 && answer.Text is not null);
    Check(answer.Probabilities!.ContainsKey(answer.Value.GetString()!));

    EachOnce(await Collect(client, Rows(200)), 200);
    var mixed = await Collect(client, [good, new Dictionary<string, object?>(), good]);
    Check(mixed.Select(result => result.Error?.Code).SequenceEqual([null, "input", null]));

    var question = new { Type = "predicate", Instructions = "Does the customer want a refund?" };
    var state = new Dictionary<string, object?> { ["state"] = "I want my money back." };
    Check((await client.AskAsync(question, state)).Value.ValueKind is JsonValueKind.True or JsonValueKind.False);

    const string id = "🛒 “it's” \"quoted\" \\ \u0007 größe 漢字 \u2028\r\n";
    Check((await client.AskAsync(task, new Dictionary<string, object?> { ["id"] = id, ["review"] = id })).Id.GetString() == id);
    await client.AskAsync(task, Review("half a pair: \ud83d"));
    await client.AskAsync(task, Review(new string('é', 2_000_000)), new Options { Shorten = true });

    await Fails("input", () => client.AskAsync(task, new Dictionary<string, object?>()));
    foreach (var value in new object[] { double.NaN, typeof(int), new object[] { new Endless() } })
    {
        await Fails("input", () => client.AskAsync(task, Review(value)));
    }
    await Fails("usage", () => client.AskAsync("nonsense", good));
    await Fails("protocol", () => client.AskAsync(task, good, new Options { MaxTokens = 3 }));
    await Fails("protocol", () => client.AskAsync(task, Review(new string('x', 17_000_000))));

    var threads = Enumerable.Range(0, 100).Select(number => Task.Factory.StartNew(
        () => client.AskAsync(task, Rows(number + 1)[number]).Result.Id.GetInt32() == number,
        TaskCreationOptions.LongRunning));
    Check((await Task.WhenAll(threads)).All(isRight => isRight));

    await client.DisposeAsync();
    await client.DisposeAsync();
    Check(client.Restarts == 0 && !IsAlive(pid) && client.ProcessId is null);
    await Fails("closed", () => client.AskAsync(task, good));
    Check((await Collect(client, [good])).Single().Error!.Code == "closed");
}

// Time limits, tokens, and loops that end early.
async Task Wait()
{
    await using var client = await EcellmClient.StartAsync(new ClientSettings { Command = command });
    foreach (var limit in new[] { TimeSpan.MaxValue, Timeout.InfiniteTimeSpan })
    {
        Check((await client.AskAsync(task, good, limit: limit)).Text is not null);
    }
    await Throws<ArgumentOutOfRangeException>(() => client.AskAsync(task, good, limit: TimeSpan.FromSeconds(-1)));
    await Throws<ArgumentOutOfRangeException>(async () => await Collect(client, [good], limit: TimeSpan.MinValue));

    using var stop = new CancellationTokenSource();
    var asked = Rows(300).Select(row => client.AskAsync(task, row, cancel: stop.Token)).ToList();
    stop.Cancel();
    foreach (var request in asked)
    {
        try
        {
            Check((await request).Text is not null);
        }
        catch (OperationCanceledException error)
        {
            Check(error.CancellationToken == stop.Token);
        }
    }
    await Throws<OperationCanceledException>(() => client.AskAsync(task, good, cancel: stop.Token));
    await Throws<OperationCanceledException>(async () => await Collect(client, Rows(3), cancel: stop.Token));
    await Throws<OperationCanceledException>(async () =>
    {
        await foreach (var result in client.AskManyAsync(task, Rows(3)).WithCancellation(stop.Token)) Check(result.Error is null);
    });
    await foreach (var result in client.AskManyAsync(task, Rows(400)))
    {
        Check(result.Answer is not null);
        break;
    }
    Check((await client.AskAsync(task, good)).Text is not null);

    // A result is given while the next row is awaited, and the source is ended.
    var given = new SemaphoreSlim(0);
    var ended = 0;
    async IAsyncEnumerable<Row> Conversation()
    {
        try
        {
            foreach (var row in Rows(3))
            {
                yield return row;
                await given.WaitAsync();
            }
        }
        finally
        {
            ended++;
        }
    }
    var count = 0;
    await foreach (var result in client.AskManyAsync(task, Conversation()))
    {
        Check(result.Index == count++ && result.Answer!.Id.GetInt32() == result.Index);
        given.Release();
    }
    Check(count == 3 && ended == 1);
    await foreach (var result in client.AskManyAsync(task, Conversation())) break; // it never gets another row
    Check(ended == 1);
    given.Release();
    while (ended == 1) await Task.Delay(1);

    var read = 0;
    IEnumerable<Row> Many()
    {
        try
        {
            for (; ; read++) yield return good;
        }
        finally
        {
            ended++;
        }
    }
    ended = 0;
    await foreach (var result in client.AskManyAsync(task, Many()))
    {
        await Task.Delay(200);
        break;
    }
    Check(read <= 256 && ended == 1);

    IEnumerable<Row> Failing()
    {
        yield return good;
        throw new DivideByZeroException();
    }
    await Throws<DivideByZeroException>(async () => await Collect(client, Failing()));
    await Throws<ObjectDisposedException>(async () => await Collect(client, [Review(new Gone())]));

    foreach (var limit in new[] { TimeSpan.Zero, TimeSpan.FromMilliseconds(300) })
    {
        await Fails("timeout", () => client.AskAsync(task, Review("hang"), limit: limit));
    }
    var late = await Collect(client, [good, good], limit: TimeSpan.FromMilliseconds(300));
    Check(late.All(result => result.Error!.Code == "timeout"));
}

async Task Die()
{
    var client = await EcellmClient.StartAsync(new ClientSettings { Command = command });
    EachOnce(await Collect(client, Rows(300), count => { if (count == 20) Kill(client.ProcessId); }), 300);
    Check(client.Restarts == 1);

    Kill(client.ProcessId);
    Check((await client.AskAsync(task, good)).Text is not null);
    Check(client.Restarts == 2);

    await Fails("crashed", () => client.AskAsync(task, Review("poison")));
    Check((await client.AskAsync(task, good)).Text is not null);

    var hanging = Fails("closed", () => client.AskAsync(task, Review("hang")));
    var pid = client.ProcessId!.Value;
    await client.DisposeAsync();
    await hanging;
    Check(!IsAlive(pid));
}

async Task Start()
{
    var missing = new ClientSettings { Command = [.. command, "missing"], ShowMessages = false };
    await Fails("model", () => EcellmClient.StartAsync(missing));
    await Fails("crashed", () => EcellmClient.StartAsync(new ClientSettings { Command = [.. command, "crash"] }));
    await Fails("crashed", () => EcellmClient.StartAsync(new ClientSettings { Command = [.. command, "foreign"] }));
    var never = new ClientSettings { Command = [.. command, "never"], StartLimit = TimeSpan.FromMilliseconds(300) };
    await Fails("crashed", () => EcellmClient.StartAsync(never));
    using var stop = new CancellationTokenSource(300);
    var patient = never with { StartLimit = TimeSpan.FromMinutes(1) };
    await Throws<OperationCanceledException>(() => EcellmClient.StartAsync(patient, stop.Token));
    await Fails("crashed", () => EcellmClient.StartAsync(new ClientSettings { Command = ["echo", "hello"] }));
    foreach (var name in new[] { "", "no program\0has this name", "/nonsense/ecellm-lite", "no-program-has-this-name" })
    {
        await Fails("crashed", () => EcellmClient.StartAsync(new ClientSettings { Command = [name] }));
    }
    await Throws<ArgumentException>(() => EcellmClient.StartAsync(new ClientSettings { Command = [] }));
    var wrong = () => EcellmClient.StartAsync(never with { StartLimit = TimeSpan.MinValue });
    await Throws<ArgumentOutOfRangeException>(wrong);

    // An answer of another form fails its request, and nothing else.
    const string odd = """
        echo '{"type": "ready", "protocol": 1, "version": "2", "limits": {"line_bytes": 999}}'
        read line; echo '{"type": "answer", "id": 1, "answer": {"error": null, "text": 7}}'; read line
        """;
    await using (var other = await EcellmClient.StartAsync(new ClientSettings { Command = ["sh", "-c", odd] }))
    {
        await Fails("protocol", () => other.AskAsync(task, good));
    }

    var note = Path.Combine(Directory.CreateTempSubdirectory("check-").FullName, "note");
    var unlucky = await EcellmClient.StartAsync(new ClientSettings { Command = [.. command, "crash", note] });
    File.WriteAllText(note, ""); // from now on a child dies while it loads
    Kill(unlucky.ProcessId);
    await Fails("crashed", () => unlucky.AskAsync(task, good));
    Check(File.ReadAllLines(note).Length == 3);
    File.Delete(note);
    Check((await unlucky.AskAsync(task, good)).Text is not null);
    await unlucky.DisposeAsync();

    var client = await EcellmClient.StartAsync(new ClientSettings { Command = [.. command, "noisy"], ShowMessages = false });
    Check((await client.AskAsync(task, good)).Text is not null);
    // No disposal: the program ends all the same, and the child with it.
}

Dictionary<string, object?> Review(object? text) => new() { ["review"] = text };

List<Dictionary<string, object?>> Rows(int count) =>
[
    .. Enumerable.Range(0, count)
        .Select(number => new Dictionary<string, object?> { ["id"] = number, ["review"] = $"row {number}" }),
];

async Task<List<Result>> Collect(
    EcellmClient client,
    IEnumerable<Row> rows,
    Action<int>? seen = null,
    TimeSpan? limit = null,
    CancellationToken cancel = default)
{
    List<Result> results = [];
    await foreach (var result in client.AskManyAsync(task, rows, limit: limit, cancel: cancel))
    {
        results.Add(result);
        seen?.Invoke(results.Count);
    }
    return [.. results.OrderBy(result => result.Index)];
}

void EachOnce(List<Result> results, int count)
{
    Check(results.Select(result => result.Index).SequenceEqual(Enumerable.Range(0, count)));
    Check(results.All(result => result.Answer!.Id.GetInt32() == result.Index));
}

async Task Fails(string code, Func<Task> asking)
{
    try
    {
        await asking();
    }
    catch (EcellmException error)
    {
        Check(error.Code == code && error.Message != "", $"{error.Code}: {error.Message}");
        return;
    }
    Check(false, $"it did not fail: {code}");
}

async Task Throws<T>(Func<Task> work) where T : Exception
{
    try
    {
        await work();
    }
    catch (T)
    {
        return;
    }
    Check(false, $"it threw no {typeof(T)}");
}

void Kill(int? pid) => Process.GetProcessById(pid!.Value).Kill();

bool IsAlive(int pid) => Process.GetProcesses().Any(process => process.Id == pid);

void Check(bool holds, [System.Runtime.CompilerServices.CallerArgumentExpression(nameof(holds))] string what = "")
{
    if (!holds) throw new InvalidOperationException(what);
}

internal sealed class Endless
{
    public Endless Again => this;
}

internal sealed class Gone
{
    public int Number => throw new ObjectDisposedException(nameof(Gone));
}
