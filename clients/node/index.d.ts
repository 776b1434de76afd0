/** The protocol's types: docs/pipe.md says what each field means. */

export type TaskName =
  | "attribute_value_extraction"
  | "product_relation_prediction"
  | "product_matching"
  | "sentiment_analysis"
  | "sequential_recommendation"
  | "multiclass_product_classification"
  | "product_substitute_identification"
  | "query_product_ranking"
  | "answerability_prediction"
  | "answer_generation"
  | (string & {}); // a task of your own, or the path of its file

/** A question in place of a task; its row is `{ state }`. */
export type Question =
  | { type: "predicate"; instructions: string }
  | { type: "choice"; instructions: string; choices: ReadonlyArray<{ value: string; description?: string | null }> }
  | { type: "score"; instructions: string; levels: ReadonlyArray<{ label: string; description?: string | null }> };

export type Row = Readonly<Record<string, unknown>>;

/** What can be settled for each request. */
export interface Options {
  instruction?: string | null;
  shorten?: boolean | null;
  min_probability?: number | null;
  calibration?: string | false | null;
  schema?: object | null;
  grammar?: string | null;
  max_tokens?: number | null;
  temperature?: number | null;
  seed?: number | null;
  /** The name of an adapter that the pipe was started with. */
  adapter?: string | null;
  stop?: readonly string[] | null;
  logprobs?: number | null;
  deadline_ms?: number | null;
  priority?: "normal" | "urgent" | null;
}

export interface Answer {
  id: string | number | null;
  task: string;
  type: "predicate" | "choice" | "labels" | "score" | "ranking" | "extraction" | "text" | "schema";
  /**
   * What to decide by: true or false, an option's letter, the value of an option of your own, letters best first,
   * extracted values, a text: by the type.
   */
  value: unknown;
  /** What the model wrote, for people: "B: positive", but a bare letter if the options are your own. */
  text: string | null;
  probability: number | null;
  probabilities: Readonly<Record<string, number>> | null;
  confidence: number | null;
  coverage: number | null;
  /** The model was not sure enough; `value` is null. */
  abstained: boolean;
  usage: {
    prompt_tokens: number;
    cached_tokens: number | null;
    decoded_tokens: number;
    forced_tokens: number;
    answer_tokens: number;
  } | null;
  seconds: number | null;
  model: { name: string; sha256: string; adapter?: { name: string; sha256: string } | null };
  envelope: string;
  calibration: string | null;
  plausible: string[] | null;
  unexplored: number | null;
  shortened: string | null;
  warnings: ReadonlyArray<{ code: string; message: string }> | null;
  error: null; // a row with an error rejects
}

export interface Ready {
  type: "ready";
  protocol: 1;
  version: string;
  model: { name: string; sha256: string; envelope: string };
  adapters?: Record<string, string>;
  tasks: readonly string[];
  limits: { line_bytes: number; requests: number; request_bytes: number };
}

/** The codes of docs/pipe.md, and four of the client's own. */
export type ErrorCode =
  | "input"
  | "context_exceeded"
  | "deadline"
  | "protocol"
  | "usage"
  | "grammar"
  | "model"
  | "internal"
  | "closed" // also: the client is closed
  | "crashed" // also: the child died, twice while it had the request, or before it was ready
  | "timeout" // there was no answer within `timeout`
  | "cancelled"
  | (string & {});

/** Why there is no answer: `code` for programs, `message` for people. */
export class EcellmError extends Error {
  constructor(code: ErrorCode, message: string, place?: { field?: string | null; step?: string | null });
  readonly code: ErrorCode;
  /** The place in the row or request. */
  readonly field: string | null;
  /** The part of the message that says what to do. */
  readonly step: string | null;
}

export interface AskSettings {
  options?: Options;
  /**
   * Milliseconds until the request is given up and cancelled: a minute, for each row of askMany ten. More than 25 days,
   * or Infinity, are 25 days.
   */
  timeout?: number;
  /** Cancels the request. */
  signal?: AbortSignal;
}

export type Result =
  | { index: number; answer: Answer; error: null }
  | { index: number; answer: null; error: EcellmError };

export interface ClientSettings {
  /** What to start: `["ecellm-lite", "pipe"]`, where needed with a path and options. */
  command?: readonly string[];
  /** Whether what the child says to people goes to this program's standard error. */
  stderr?: "inherit" | "ignore";
  /** Milliseconds that the model may take to load: ten minutes. */
  startTimeout?: number;
}

export class Client {
  /** Start a child, and wait until its model is loaded. Rejects with what the start failed with. */
  static start(settings?: ClientSettings): Promise<Client>;
  private constructor();

  /** What the child says of itself. */
  readonly ready: Ready;
  /** The child's process number; null while there is none. */
  readonly pid: number | null;
  /** How often the child was started again. */
  readonly restarts: number;

  /** The answer to one row. Rejects with an EcellmError, also for a row that is wrong. */
  ask(task: TaskName | Question, row: Row, settings?: AskSettings): Promise<Answer>;

  /**
   * One result for each row, as they finish: `index` is the row's place, from 0. A result does not wait for the next
   * row. At most 256 rows are on their way at once. Breaking off the loop cancels them.
   */
  askMany(
    task: TaskName | Question,
    rows: Iterable<Row> | AsyncIterable<Row>,
    settings?: AskSettings,
  ): AsyncGenerator<Result, void, undefined>;

  /** End the child; requests without an answer reject with the code "closed". */
  close(): Promise<void>;
}
