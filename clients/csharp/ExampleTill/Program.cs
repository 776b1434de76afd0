// Reads a review a line, and prints what the customer thinks: dotnet run [-- COMMAND...]
using System.Globalization;
using EcellmLite;

const double enough = 0.8; // below it a person decides

var settings = args.Length > 0 ? new ClientSettings { Command = args } : new ClientSettings();
EcellmClient client;
try
{
    client = await EcellmClient.StartAsync(settings);
}
catch (EcellmException error)
{
    Console.Error.WriteLine(error.Message);
    return 1;
}
await using var ending = client;
while (Console.ReadLine() is { } review)
{
    try
    {
        var row = new Dictionary<string, object?> { ["review"] = review };
        var answer = await client.AskAsync("sentiment_analysis", row, limit: TimeSpan.FromSeconds(30));
        var advice = answer.Abstained || answer.Probability < enough ? "  ask a person" : "";
        var probability = answer.Probability?.ToString("F2", CultureInfo.InvariantCulture);
        Console.WriteLine($"{answer.Text ?? "not sure"}  {probability}{advice}");
    }
    catch (EcellmException error)
    {
        Console.WriteLine($"no answer ({error.Code}): {error.Message}  ask a person");
    }
}
return 0;
