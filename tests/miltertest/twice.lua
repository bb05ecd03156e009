-- A client whose DATA somebody else refused may say it again: the message is the same, and counts once.

local function begin(conn, recipient)
  assert(mt.mailfrom(conn, "<a@example.org>") == nil)
  assert(mt.rcptto(conn, recipient) == nil)
  assert(mt.data(conn) == nil)
end

local conn = mt.connect(socket)
assert(conn ~= nil)
assert(mt.conninfo(conn, "client.example.org", "192.0.2.7") == nil)
begin(conn, "<friend@example.org>")
assert(mt.getreply(conn) == SMFIR_ACCEPT)
assert(mt.data(conn) == nil)
assert(mt.getreply(conn) == SMFIR_ACCEPT)
assert(mt.abort(conn) == nil)

begin(conn, "<hold@example.org>")
assert(mt.getreply(conn) == SMFIR_CONTINUE)
assert(mt.data(conn) == nil)
assert(mt.getreply(conn) == SMFIR_CONTINUE)
assert(mt.header(conn, "From", "a@example.org") == nil)
assert(mt.header(conn, "Message-ID", "<once@example.org>") == nil)
assert(mt.eoh(conn) == nil)
assert(mt.eom(conn) == nil)
assert(mt.getreply(conn) == SMFIR_ACCEPT)
mt.disconnect(conn)
mt.echo("done: 0 failed open")
