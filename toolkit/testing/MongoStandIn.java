// A MongoDB that is enough for Dapr's component: mongo-java-server with what it lacks.
//
//   java -cp 'lib/*' MongoStandIn.java PORT [lose-commits]
//
// With lose-commits every commit is rolled back and answered NoSuchTransaction, as after a failover.
//
// Added here: updates by a pipeline of $set and $addFields, $$NOW, the greeting of a replica set, and transactions with
// roll-back. One transaction is open at a time; another one that writes meanwhile gets a WriteConflict, as MongoDB
// answers, and the driver repeats it. Reads see uncommitted writes, and expired documents are never swept.

import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.backend.aggregation.Expression;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import io.netty.channel.Channel;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

public class MongoStandIn extends MemoryBackend {
  private static final long ABANDONED_MILLIS = 5000;
  private final String address;
  private final boolean losesCommits;

  /** What to put back, the last first: the key, and the document as it was or null. */
  private record Undo(Channel channel, String database, String collection, Object id, Document before) {}

  private final Deque<Undo> undo = new ArrayDeque<>();
  private String open = "";
  private long openedAt;

  MongoStandIn(String address, boolean losesCommits) {
    this.address = address;
    this.losesCommits = losesCommits;
  }

  public static void main(String[] arguments) {
    int port = Integer.parseInt(arguments[0]);
    boolean losesCommits = arguments.length > 1 && arguments[1].equals("lose-commits");
    new MongoServer(new MongoStandIn("127.0.0.1:" + port, losesCommits)).bind("127.0.0.1", port);
  }

  @Override
  public synchronized Document handleCommand(Channel channel, String database, String command, Document query) {
    switch (command.toLowerCase()) {
      case "hello", "ismaster":
        return greeting(super.handleCommand(channel, database, command, query));
      case "endsessions":
        return ok();
      case "committransaction", "aborttransaction":
        return end(query, command.equalsIgnoreCase("abortTransaction"));
      default:
        break;
    }
    boolean transactional = Boolean.FALSE.equals(query.get("autocommit"));
    boolean writes = command.equals("update") || command.equals("delete");
    if (transactional) {
      Document refusal = enter(session(query));
      if (refusal != null) return refusal;
    }
    Document plain = withoutSession(query);
    if (writes && transactional) remember(channel, database, command, plain);
    if (command.equals("update")) plain = withoutPipelines(channel, database, plain);
    return super.handleCommand(channel, database, command, plain);
  }

  private Document greeting(Document answer) {
    return answer.append("setName", "rs0").append("hosts", List.of(address)).append("me", address)
        .append("primary", address).append("isWritablePrimary", true).append("ismaster", true)
        .append("secondary", false).append("maxWireVersion", 13).append("logicalSessionTimeoutMinutes", 30);
  }

  private static Document ok() {
    return new Document("ok", 1.0);
  }

  private static String session(Document query) {
    return query.get("lsid") + "/" + query.get("txnNumber");
  }

  private Document enter(String session) {
    if (!open.isEmpty() && !open.equals(session)) {
      if (System.currentTimeMillis() - openedAt < ABANDONED_MILLIS) {
        return new Document("ok", 0.0).append("code", 112).append("codeName", "WriteConflict")
            .append("errmsg", "WriteConflict error: this operation conflicted with another operation.")
            .append("errorLabels", List.of("TransientTransactionError"));
      }
      rollBack();
    }
    if (open.isEmpty()) {
      open = session;
      openedAt = System.currentTimeMillis();
    }
    return null;
  }

  private Document end(Document query, boolean abort) {
    if (open.equals(session(query))) {
      if (abort || losesCommits) rollBack();
      undo.clear();
      open = "";
    }
    if (losesCommits && !abort) {
      return new Document("ok", 0.0).append("code", 251).append("codeName", "NoSuchTransaction")
          .append("errmsg", "the transaction was aborted");
    }
    return ok();
  }

  private void rollBack() {
    for (Undo step : undo) {
      Document only = new Document("q", new Document("_id", step.id())).append("limit", 1);
      super.handleCommand(step.channel(), step.database(), "delete",
          new Document("delete", step.collection()).append("deletes", List.of(only)));
      if (step.before() != null) {
        super.handleCommand(step.channel(), step.database(), "insert",
            new Document("insert", step.collection()).append("documents", List.of(step.before())));
      }
    }
    undo.clear();
    open = "";
  }

  private void remember(Channel channel, String database, String command, Document query) {
    String collection = (String) query.get(command);
    for (Object item : (Collection<?>) query.get(command.equals("update") ? "updates" : "deletes")) {
      Object id = ((Document) ((Document) item).get("q")).get("_id");
      Document before = find(channel, database, collection, new Document("_id", id));
      undo.push(new Undo(channel, database, collection, id, before));
    }
  }

  private Document find(Channel channel, String database, String collection, Document filter) {
    Document answer = super.handleCommand(channel, database, "find",
        new Document("find", collection).append("filter", filter).append("limit", 1));
    Collection<?> batch = (Collection<?>) ((Document) answer.get("cursor")).get("firstBatch");
    return batch.isEmpty() ? null : ((Document) batch.iterator().next()).cloneDeeply();
  }

  /** Replace each pipeline by the $set and $unset that it comes to for the document it matches. */
  private Document withoutPipelines(Channel channel, String database, Document query) {
    List<Document> updates = new ArrayList<>();
    for (Object item : (Collection<?>) query.get("updates")) {
      Document update = ((Document) item).clone();
      if (update.get("u") instanceof Collection<?> stages) {
        Document filter = (Document) update.get("q");
        Document found = find(channel, database, (String) query.get("update"), filter);
        update.put("u", evaluated(stages, found == null ? new Document(filter) : found));
      }
      updates.add(update);
    }
    Document result = query.clone();
    result.put("updates", updates);
    return result;
  }

  private static Document evaluated(Collection<?> stages, Document document) {
    Document set = new Document();
    Document unset = new Document();
    for (Object stage : stages) {
      for (Object assignments : ((Document) stage).values()) {
        for (Map.Entry<String, Object> field : ((Document) assignments).entrySet()) {
          Document one = new Document(field.getKey(), field.getValue());
          Object value = ((Document) Expression.evaluateDocument(one, document)).getOrMissing(field.getKey());
          set.remove(field.getKey());
          unset.remove(field.getKey());
          if (value != null && value.getClass().getSimpleName().equals("Missing")) {
            unset.put(field.getKey(), 1);
          } else if (!field.getKey().equals("_id")) {
            set.put(field.getKey(), value);
          }
        }
      }
    }
    Document update = new Document("$set", set);
    return unset.isEmpty() ? update : update.append("$unset", unset);
  }

  private static Document withoutSession(Document query) {
    Document plain = (Document) withNow(query, Instant.now());
    for (String name : List.of("lsid", "txnNumber", "autocommit", "startTransaction", "readConcern", "writeConcern")) {
      plain.remove(name);
    }
    return plain;
  }

  private static Object withNow(Object value, Instant now) {
    if (value instanceof Document document) {
      Map<String, Object> copy = new LinkedHashMap<>();
      document.forEach((name, inner) -> copy.put(name, withNow(inner, now)));
      return new Document(copy);
    }
    if (value instanceof Collection<?> list) {
      List<Object> copy = new ArrayList<>();
      for (Object inner : list) copy.add(withNow(inner, now));
      return copy;
    }
    return "$$NOW".equals(value) ? now : value;
  }
}
