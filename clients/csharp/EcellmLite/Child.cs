using System.ComponentModel;
using System.Diagnostics;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;

namespace EcellmLite;

/// <summary>A request without an answer; <c>Deaths</c> counts the children that had it and died.</summary>
internal sealed class Request(long id, string line)
{
    public long Id { get; } = id;

    public string Line { get; } = line;

    public int Deaths { get; set; }

    public TaskCompletionSource<Answer> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>End it as a message of its id says: an answer, an error, or that it was cancelled.</summary>
    public void Settle(JsonElement message, JsonSerializerOptions json)
    {
        var holder = message.TryGetProperty("answer", out var answer) ? answer : message;
        try
        {
            if (holder.TryGetProperty("error", out var error) && error.ValueKind == JsonValueKind.Object)
            {
                Answer.TrySetException(EcellmException.Of(error));
            }
            else if (answer.ValueKind == JsonValueKind.Object)
            {
                Answer.TrySetResult(answer.Deserialize<Answer>(json)!);
            }
            else
            {
                Answer.TrySetCanceled();
            }
        }
        catch (Exception error) when (error is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            Answer.TrySetException(new EcellmException("protocol", $"The answer has another form than expected: {error.Message}"));
        }
    }
}

/// <summary>A child process, and the lines that are on their way to it: whoever asks never waits for a full pipe.</summary>
internal sealed class Child
{
    private readonly Timer _startLimit;

    private Child(Process program, TimeSpan startLimit)
    {
        Program = program;
        _startLimit = new Timer(_ => Dismiss("was not ready in time"), null, startLimit, Timeout.InfiniteTimeSpan);
    }

    public Process Program { get; }

    public Channel<string> Lines { get; } = Channel.CreateUnbounded<string>();

    public volatile bool IsReady;

    public volatile bool HasAnswered;

    /// <summary>Why it had to go.</summary>
    public volatile EcellmException? Failure;

    public static Child Start(ClientSettings settings)
    {
        var start = new ProcessStartInfo(settings.Command[0])
        {
            UseShellExecute = false,
            CreateNoWindow = true,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = !settings.ShowMessages,
            StandardInputEncoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false),
            StandardOutputEncoding = Encoding.UTF8,
        };
        foreach (var argument in settings.Command.Skip(1)) start.ArgumentList.Add(argument);
        Process program;
        try
        {
            program = Process.Start(start)!;
        }
        catch (Exception error) when (error is Win32Exception or InvalidOperationException)
        {
            const string step = "give the path of ecellm-lite as the command, if it is not on the PATH";
            throw new EcellmException("crashed", $"{settings.Command[0]} does not run ({error.Message}): {step}.", step: step);
        }
        if (!settings.ShowMessages)
        {
            program.ErrorDataReceived += (_, _) => { }; // read and dropped: a full pipe would stop the child
            program.BeginErrorReadLine();
        }
        program.StandardInput.AutoFlush = false;
        var child = new Child(program, settings.StartLimit);
        _ = Task.Run(child.WriteAsync);
        return child;
    }

    /// <summary>Its model is loaded.</summary>
    public void Ready()
    {
        IsReady = true;
        _startLimit.Dispose();
    }

    /// <summary>End it at once, since something is wrong with it.</summary>
    public void Dismiss(string what)
    {
        Failure ??= new EcellmException("crashed", $"The child process {what}.");
        Kill();
    }

    /// <summary>Let it end by itself for so long, then kill it.</summary>
    public async Task EndAsync(TimeSpan patience)
    {
        Lines.Writer.TryComplete();
        _startLimit.Dispose();
        try
        {
            await Program.WaitForExitAsync().WaitAsync(patience).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            Kill();
            await Program.WaitForExitAsync().ConfigureAwait(false);
        }
    }

    private void Kill()
    {
        try
        {
            Program.Kill();
        }
        catch (Exception error) when (error is InvalidOperationException or Win32Exception)
        {
            // It has ended already.
        }
    }

    private async Task WriteAsync()
    {
        try
        {
            await foreach (var line in Lines.Reader.ReadAllAsync().ConfigureAwait(false))
            {
                await Program.StandardInput.WriteAsync(line + "\n").ConfigureAwait(false);
                if (!Lines.Reader.TryPeek(out _)) await Program.StandardInput.FlushAsync().ConfigureAwait(false);
            }
            Program.StandardInput.Close();
        }
        catch (Exception error) when (error is IOException or ObjectDisposedException or InvalidOperationException)
        {
            // It is gone, as whoever reads it finds out too.
        }
    }
}
