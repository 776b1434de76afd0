package ecellmlite;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON in and out, as far as the protocol needs it. Objects are {@code Map<String, Object>} in their order, arrays
 * {@code List<Object>}; numbers are Long, or Double where they have a point, an exponent or too many digits.
 */
final class Json {
    private static final int DEEPEST = 500; // objects and arrays in each other

    private final String text;
    private int place;

    private Json(String text) {
        this.text = text;
    }

    /** Return what a text says; throws IllegalArgumentException for one that is no JSON. */
    static Object read(String text) {
        Json json = new Json(text);
        Object value = json.value(0);
        json.skipSpace();
        if (json.place < text.length()) {
            throw json.wrong();
        }
        return value;
    }

    /** Return a value as one line of ASCII; throws IllegalArgumentException for one that JSON has no form for. */
    static String write(Object value) {
        StringBuilder line = new StringBuilder();
        write(value, line, 0);
        return line.toString();
    }

    private Object value(int depth) {
        skipSpace();
        if (place == text.length() || depth > DEEPEST) {
            throw wrong();
        }
        return switch (text.charAt(place)) {
            case '{' -> object(depth);
            case '[' -> array(depth);
            case '"' -> string();
            case 't' -> word("true", true);
            case 'f' -> word("false", false);
            case 'n' -> word("null", null);
            default -> number();
        };
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> object = new LinkedHashMap<>();
        place++;
        if (isNext('}')) {
            return object;
        }
        do {
            skipSpace();
            String key = string();
            expect(':');
            object.put(key, value(depth + 1));
        } while (isNext(','));
        expect('}');
        return object;
    }

    private List<Object> array(int depth) {
        List<Object> array = new ArrayList<>();
        place++;
        if (isNext(']')) {
            return array;
        }
        do {
            array.add(value(depth + 1));
        } while (isNext(','));
        expect(']');
        return array;
    }

    private String string() {
        expect('"');
        StringBuilder string = new StringBuilder();
        while (place < text.length()) {
            char character = text.charAt(place++);
            if (character == '"') {
                return string.toString();
            }
            string.append(character == '\\' ? escaped() : character);
        }
        throw wrong();
    }

    private char escaped() {
        if (place == text.length()) {
            throw wrong();
        }
        char escape = text.charAt(place++);
        return switch (escape) {
            case '"', '\\', '/' -> escape;
            case 'b' -> '\b';
            case 'f' -> '\f';
            case 'n' -> '\n';
            case 'r' -> '\r';
            case 't' -> '\t';
            case 'u' -> {
                if (place + 4 > text.length()) {
                    throw wrong();
                }
                place += 4;
                yield (char) Integer.parseInt(text.substring(place - 4, place), 16);
            }
            default -> throw wrong();
        };
    }

    private Object number() {
        int start = place;
        while (place < text.length() && "+-.eE0123456789".indexOf(text.charAt(place)) >= 0) {
            place++;
        }
        String number = text.substring(start, place);
        try {
            if (number.length() < 19 && number.matches("-?[0-9]+")) {
                return Long.valueOf(number);
            }
            return Double.valueOf(number);
        } catch (NumberFormatException error) {
            throw wrong();
        }
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, place)) {
            throw wrong();
        }
        place += word.length();
        return value;
    }

    private void skipSpace() {
        while (place < text.length() && " \t\r\n".indexOf(text.charAt(place)) >= 0) {
            place++;
        }
    }

    /** Pass a character if it comes next. */
    private boolean isNext(char character) {
        skipSpace();
        boolean isNext = place < text.length() && text.charAt(place) == character;
        place += isNext ? 1 : 0;
        return isNext;
    }

    private void expect(char character) {
        if (!isNext(character)) {
            throw wrong();
        }
    }

    private IllegalArgumentException wrong() {
        return new IllegalArgumentException("The text is no JSON from character " + place + " on.");
    }

    private static void write(Object value, StringBuilder line, int depth) {
        if (depth > DEEPEST) {
            throw new IllegalArgumentException("The value is nested too deeply.");
        }
        if (value instanceof Map<?, ?> map) {
            String separator = "{";
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                writeString(String.valueOf(entry.getKey()), line.append(separator));
                write(entry.getValue(), line.append(':'), depth + 1);
                separator = ",";
            }
            line.append(map.isEmpty() ? "{}" : "}");
        } else if (value instanceof Iterable<?> items) {
            line.append('[');
            String separator = "";
            for (Object item : items) {
                write(item, line.append(separator), depth + 1);
                separator = ",";
            }
            line.append(']');
        } else if (value instanceof Object[] items) {
            write(Arrays.asList(items), line, depth);
        } else if (value instanceof CharSequence string) {
            writeString(string, line);
        } else if (value instanceof Double || value instanceof Float) {
            double number = ((Number) value).doubleValue();
            if (!Double.isFinite(number)) {
                throw new IllegalArgumentException(number + " is no JSON number.");
            }
            line.append(value);
        } else if (value == null || value instanceof Boolean || value instanceof Number) {
            line.append(value);
        } else {
            throw new IllegalArgumentException("JSON has no form for a " + value.getClass().getName() + ".");
        }
    }

    private static void writeString(CharSequence string, StringBuilder line) {
        line.append('"');
        for (int place = 0; place < string.length(); place++) {
            char character = string.charAt(place);
            if (character == '"' || character == '\\') {
                line.append('\\').append(character);
            } else if (character < 0x20 || character > 0x7e) {
                line.append("\\u").append(HexFormat.of().toHexDigits(character));
            } else {
                line.append(character);
            }
        }
        line.append('"');
    }
}
