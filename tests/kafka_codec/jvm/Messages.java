// Kafka's own message classes, for a test of our codec. One command a line, one answer a line:
//
//   read API KIND VERSION HEX    what they write again of what they read
//   draw API KIND VERSION SEED   a message at random, as they write it
//
// KIND is `request` or `response`; where they object, the answer is `error` and why.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;

public class Messages {
    public static void main(String[] args) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder answers = new StringBuilder();
        for (String command; (command = commands.readLine()) != null; ) {
            String answer;
            try {
                answer = answer(command.split(" ", -1));
            } catch (Exception e) {
                answer = "error " + e.toString().replace('\n', ' ');
            }
            answers.append(answer).append('\n');
        }
        System.out.print(answers);
    }

    private static String answer(String[] words) throws Exception {
        ApiMessageType type = ApiMessageType.fromApiKey(Short.parseShort(words[1]));
        ApiMessage message = words[2].equals("request") ? type.newRequest() : type.newResponse();
        short version = Short.parseShort(words[3]);
        if (words[0].equals("read")) {
            ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(words[4]));
            message.read(new ByteBufferAccessor(bytes), version);
            if (bytes.hasRemaining()) {
                return "error " + bytes.remaining() + " bytes are left";
            }
        } else {
            new Draw(version, Long.parseLong(words[4])).fill(message);
        }
        ByteBuffer written = MessageUtil.toByteBufferAccessor(message, version).buffer();
        byte[] bytes = new byte[written.remaining()];
        written.get(bytes);
        return HexFormat.of().formatHex(bytes);
    }

    /** Fills in every field that a version has, as its schema names it. */
    private record Draw(short version, Random random) {
        // Codes that exist: others could not be told apart again by who keeps them as names.
        private static final short[] ERRORS = {0, 1, 3, 16, 22, 25, 27, 69, 82, 100};

        Draw(short version, long seed) {
            this(version, new Random(seed));
        }

        void fill(Object struct) throws Exception {
            Schema[] schemas = (Schema[]) struct.getClass().getField("SCHEMAS").get(null);
            for (BoundField field : schemas[version].fields()) {
                if (field.def.type instanceof TaggedFields tagged) {
                    for (Field one : tagged.fields().values()) {
                        if (random.nextBoolean()) {
                            set(struct, one);
                        }
                    }
                } else {
                    set(struct, field.def);
                }
            }
        }

        private void set(Object struct, Field field) throws Exception {
            String setter = "set" + field.name.replace("_", "");
            for (Method method : struct.getClass().getMethods()) {
                if (method.getName().equalsIgnoreCase(setter)) {
                    boolean isNull = field.type.isNullable() && random.nextInt(4) == 0;
                    boolean isError = field.name.equals("error_code");
                    Object value = isNull ? null
                        : isError ? (Object) ERRORS[random.nextInt(ERRORS.length)]
                        : value(method.getGenericParameterTypes()[0]);
                    method.invoke(struct, value);
                    return;
                }
            }
            throw new IllegalStateException("nothing sets " + field.name);
        }

        @SuppressWarnings("unchecked")
        private Object value(Type type) throws Exception {
            if (type instanceof ParameterizedType list) {
                return fillUp(new ArrayList<>(), list.getActualTypeArguments()[0]);
            }
            Class<?> kind = (Class<?>) type;
            if (Collection.class.isAssignableFrom(kind)) {
                Collection<Object> some = (Collection<Object>) kind.getConstructor().newInstance();
                Type element = ((ParameterizedType) kind.getGenericSuperclass()).getActualTypeArguments()[0];
                return fillUp(some, element);
            }
            return switch (kind.getSimpleName()) {
                case "boolean" -> random.nextBoolean();
                case "byte", "Byte" -> (byte) random.nextInt();
                case "short", "Short" -> (short) random.nextInt();
                case "int", "Integer" -> random.nextInt();
                case "long", "Long" -> random.nextLong();
                case "String" -> text();
                case "Uuid" -> new Uuid(random.nextLong(), random.nextLong());
                case "byte[]" -> text().getBytes();
                default -> {
                    Object struct = kind.getConstructor().newInstance();
                    fill(struct);
                    yield struct;
                }
            };
        }

        private Collection<Object> fillUp(Collection<Object> some, Type element) throws Exception {
            int size = random.nextInt(20) == 0 ? 150 : random.nextInt(4);
            for (int at = 0; at < size; at++) {
                some.add(value(element));
            }
            return some;
        }

        private String text() {
            List<String> letters = List.of("a", ".", "\0", "é", "河", "🌊");
            StringBuilder text = new StringBuilder();
            int length = random.nextInt(10) == 0 ? random.nextInt(400) : random.nextInt(12);
            for (int at = 0; at < length; at++) {
                text.append(letters.get(random.nextInt(letters.size())));
            }
            return text.toString();
        }
    }
}
