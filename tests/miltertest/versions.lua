-- MTAs of other ages: protocol versions 2 and 4, and one that lets a filter do nothing.

-- miltertest's manual has the last two the other way round than miltertest.
local function negotiated(version, actions, steps)
  local conn = mt.connect(socket)
  assert(conn ~= nil)
  assert(mt.negotiate(conn, version, steps, actions) == nil)
  return conn
end

local function message(conn, author, list, with_data)
  assert(mt.conninfo(conn, "client.example.org", "192.0.2.7") == nil)
  assert(mt.mailfrom(conn, "<" .. author .. "@example.org>") == nil)
  assert(mt.rcptto(conn, "<" .. list .. "@example.org>") == nil)
  if with_data then
    assert(mt.data(conn) == nil)
  end
  assert(mt.header(conn, "Message-ID", "<" .. author .. list .. "@example.org>") == nil)
  assert(mt.eoh(conn) == nil)
  assert(mt.eom(conn) == nil)
  local reply = mt.getreply(conn)
  local held = mt.eom_check(conn, MT_QUARANTINE)
  mt.disconnect(conn)
  return reply, held
end

-- Version 2 has no DATA command, and every step is answered.
local reply, held = message(negotiated(2, 0x3f, 0x7f), "p1", "hold", false)
assert(reply == SMFIR_ACCEPT and not held)
reply, held = message(negotiated(2, 0x3f, 0x7f), "p2", "hold", false)
assert(reply == SMFIR_ACCEPT and held)

reply, held = message(negotiated(4, 0x3f, 0x37f), "p3", "hold", true)
assert(reply == SMFIR_ACCEPT and held)

-- Nothing but version 6's own steps.
reply, held = message(negotiated(6, 0x1ff, 0), "p4", "hold", true)
assert(reply == SMFIR_ACCEPT and held)

-- Without the action that a verdict takes, the message passes, and becalm says so. A refusal takes none.
reply, held = message(negotiated(6, 0, 0x1fffff), "p5", "hold", true)
assert(reply == SMFIR_ACCEPT and not held)
-- Nor is a message held that cannot be marked: nobody could release it.
reply, held = message(negotiated(6, 0x20, 0x1fffff), "p6", "hold", true)
assert(reply == SMFIR_ACCEPT and not held)
message(negotiated(6, 0, 0x1fffff), "p1", "reject", true)
reply = message(negotiated(6, 0, 0x1fffff), "p2", "reject", true)
assert(reply == SMFIR_REPLYCODE)

mt.echo("done: 2 failed open")
