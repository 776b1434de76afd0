using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Row = System.Collections.Generic.IReadOnlyDictionary<string, object?>;

namespace EcellmLite;

/// <summary>The results of many rows as they finish. No result waits for the next row.</summary>
internal static class Results
{
    private const int Window = 256; // rows that are on their way at once

    public static async IAsyncEnumerable<Result> AsTheyFinish(
        IAsyncEnumerable<Row> rows,
        Func<Row, CancellationToken, Task<Answer>> ask,
        [EnumeratorCancellation] CancellationToken cancel)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var finished = Channel.CreateUnbounded<Result>();
        var source = rows.GetAsyncEnumerator(stop.Token);
        Task<bool>? reading = null; // whether there is another row, until it was asked
        var (asked, given, isRead) = (0, 0, false);

        async Task AskOne(int index, Row row)
        {
            try
            {
                var answer = await ask(row, stop.Token).ConfigureAwait(false);
                finished.Writer.TryWrite(new Result(index, answer, null));
            }
            catch (EcellmException error)
            {
                finished.Writer.TryWrite(new Result(index, null, error));
            }
            catch (Exception error) // it is cancelled, or no request: the loop ends with it
            {
                finished.Writer.TryComplete(error);
            }
        }

        try
        {
            while (!isRead || given < asked)
            {
                if (!isRead && asked - given < Window) reading ??= source.MoveNextAsync().AsTask();
                if (reading is { IsCompleted: true })
                {
                    isRead = !await reading.ConfigureAwait(false);
                    reading = null;
                    if (!isRead) _ = AskOne(asked++, source.Current);
                }
                else if (finished.Reader.TryRead(out var result))
                {
                    given++;
                    yield return result;
                }
                else
                {
                    var finishing = finished.Reader.WaitToReadAsync(stop.Token).AsTask();
                    await (await Task.WhenAny(reading ?? finishing, finishing).ConfigureAwait(false)).ConfigureAwait(false);
                }
            }
        }
        finally
        {
            stop.Cancel(); // whoever breaks off the loop wants no more answers
            var ending = EndAsync(source, reading);
            if (reading is null or { IsCompleted: true }) await ending.ConfigureAwait(false);
        }
    }

    /// <summary>Rows that are there already, as rows to be awaited.</summary>
    public static async IAsyncEnumerable<Row> Awaitable(IEnumerable<Row> rows)
    {
        foreach (var row in rows) yield return row;
        await Task.CompletedTask.ConfigureAwait(false); // the compiler wants to see one
    }

    /// <summary>Dispose of the source, which may be waiting for its next row, and that for ever.</summary>
    private static async Task EndAsync(IAsyncEnumerator<Row> source, Task<bool>? reading)
    {
        try
        {
            if (reading is not null) await reading.ConfigureAwait(false);
        }
        catch (Exception)
        {
            // The loop has it, if there still is one.
        }
        await source.DisposeAsync().ConfigureAwait(false);
    }
}
