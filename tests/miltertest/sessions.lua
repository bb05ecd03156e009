-- Several messages on a connection, aborts in every state, ends without a word.

local function begin(conn, author, recipient)
  assert(mt.conninfo(conn, "client.example.org", "192.0.2.7") == nil)
  assert(mt.test_option(conn, SMFIP_NOHELO) and mt.test_option(conn, SMFIP_NOBODY), "not asked for")
  assert(mt.mailfrom(conn, "<" .. author .. "@example.org>") == nil)
  assert(mt.rcptto(conn, recipient) == nil)
  assert(mt.data(conn) == nil)
  return mt.getreply(conn)
end

local function finish(conn, id)
  assert(mt.header(conn, "Message-ID", "<" .. id .. "@example.org>") == nil)
  assert(mt.eoh(conn) == nil)
  assert(mt.eom(conn) == nil)
  return mt.getreply(conn)
end

local conn = mt.connect(socket)
assert(conn ~= nil)
-- Ordinary mail is accepted at DATA; the connection lives on.
assert(begin(conn, "p0", "<friend@example.org>") == SMFIR_ACCEPT)
assert(mt.abort(conn) == nil)
assert(begin(conn, "p1", "<hold@example.org>") == SMFIR_CONTINUE)
assert(finish(conn, "m1") == SMFIR_ACCEPT and not mt.eom_check(conn, MT_QUARANTINE))
assert(mt.abort(conn) == nil)
-- Aborted after DATA, and in the headers: no attempt.
assert(begin(conn, "p2", "<hold@example.org>") == SMFIR_CONTINUE)
assert(mt.abort(conn) == nil)
assert(begin(conn, "p3", "<hold@example.org>") == SMFIR_CONTINUE)
assert(mt.header(conn, "Message-ID", "<gone@example.org>") == nil)
assert(mt.abort(conn) == nil)
assert(mt.abort(conn) == nil)
-- Who has just written to a list may be sending another part of it: that is looked at. Others are not.
assert(begin(conn, "p1", "<friend@example.org>") == SMFIR_CONTINUE)
assert(finish(conn, "m5") == SMFIR_ACCEPT and not mt.eom_check(conn, MT_HDRADD))
assert(mt.abort(conn) == nil)
assert(begin(conn, "p5", "<friend@example.org>") == SMFIR_ACCEPT)
assert(mt.abort(conn) == nil)
mt.disconnect(conn, false)

-- The second author is a storm, on another connection.
conn = mt.connect(socket)
assert(begin(conn, "p4", "<hold@example.org>") == SMFIR_CONTINUE)
assert(finish(conn, "m4") == SMFIR_ACCEPT and mt.eom_check(conn, MT_QUARANTINE))
mt.disconnect(conn)

mt.echo("done: 0 failed open")
