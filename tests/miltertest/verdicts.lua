-- Each verdict, as the milter protocol says it. On every list the first author passes, the second is a storm.

local function message(conn, author, recipients, id)
  assert(mt.conninfo(conn, "client.example.org", "192.0.2.7") == nil)
  mt.macro(conn, SMFIC_MAIL, "i", id)
  assert(mt.mailfrom(conn, "<" .. author .. "@example.org>") == nil)
  for _, recipient in ipairs(recipients) do
    assert(mt.rcptto(conn, recipient) == nil)
  end
  assert(mt.data(conn) == nil)
  assert(mt.getreply(conn) == SMFIR_CONTINUE, "a list's message is read to its end")
  assert(mt.header(conn, "From", author .. "@example.org") == nil)
  assert(mt.header(conn, "Message-ID", "<" .. id .. "@example.org>") == nil)
  assert(mt.header(conn, "X-Becalm", "forged") == nil)
  assert(mt.eoh(conn) == nil)
  assert(mt.eom(conn) == nil)
  return mt.getreply(conn)
end

local function storm(list, recipients)
  local conn = mt.connect(socket)
  assert(conn ~= nil)
  assert(message(conn, "first", { "<" .. list .. "@example.org>" }, list .. "1") == SMFIR_ACCEPT)
  assert(not mt.eom_check(conn, MT_QUARANTINE))
  mt.disconnect(conn)
  conn = mt.connect(socket)
  return conn, message(conn, "second", recipients or { "<" .. list .. "@example.org>" }, list .. "2")
end

local function marked(conn, verdict, id)
  assert(mt.eom_check(conn, MT_HDRINSERT, "X-Becalm"))
  assert(mt.eom_check(conn, MT_HDRDELETE, "X-Becalm"), "the forged one goes")
  local value = mt.getheader(conn, "X-Becalm", 0)
  assert(string.find(value, "id=" .. id .. "; verdict=" .. verdict .. "; reason=storm", 1, true), value)
end

local conn, reply = storm("observe")
assert(reply == SMFIR_ACCEPT)
assert(not mt.eom_check(conn, MT_HDRINSERT) and not mt.eom_check(conn, MT_HDRADD) and not mt.eom_check(conn, MT_HDRDELETE))
assert(not mt.eom_check(conn, MT_QUARANTINE))
mt.disconnect(conn)

conn, reply = storm("hold")
assert(reply == SMFIR_ACCEPT)
assert(mt.eom_check(conn, MT_QUARANTINE))
marked(conn, "hold", "hold2")
mt.disconnect(conn)

conn, reply = storm("reject")
assert(reply == SMFIR_REPLYCODE)
-- miltertest compares code, enhanced code and text as one string.
assert(mt.eom_check(conn, MT_SMTPREPLY, "550 5.7.1 not now"))
mt.disconnect(conn)

conn, reply = storm("defer")
assert(reply == SMFIR_REPLYCODE)
assert(mt.eom_check(conn, MT_SMTPREPLY, "451 4.7.1 later"))
mt.disconnect(conn)

conn, reply = storm("discard")
assert(reply == SMFIR_DISCARD)
mt.disconnect(conn)

-- The bytes of the recipient come back as they were sent, or Postfix would not find it.
conn, reply = storm("strip", { "<Strip@Example.Org>", "<friend@example.org>" })
assert(reply == SMFIR_ACCEPT)
assert(mt.eom_check(conn, MT_RCPTDELETE, "<Strip@Example.Org>"))
assert(not mt.eom_check(conn, MT_RCPTDELETE, "<friend@example.org>"))
assert(not mt.eom_check(conn, MT_QUARANTINE))
marked(conn, "strip", "strip2")
mt.disconnect(conn)

mt.echo("done: 0 failed open")
