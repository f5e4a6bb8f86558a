"""What runs inside the Redis server: each script is atomic there, on the keys of one slot.

A session is one hash. A field ``a:NAME`` is an attribute: its place in the order in which the
attributes were first set, a space, its JSON text. The other fields are ours: ``created``,
``accessed`` and ``authenticated`` (the last login, if there was one) in seconds since the epoch,
``interval``, ``until`` (the end, if that is a fixed date), ``listed`` (until when the index of a
user's sessions knows it, a space, the JSON text of that user's id), and ``serial``, which grows
with every change and gives out the places. A session exists if ``accessed`` does. While its
key is being changed, ``left`` takes the place of ``accessed``, with ``moved_to`` (the digest of the
new key) and ``moved_at``. Once the key is changed, ``moved_to`` alone stays for a while.

Each script can be run twice with the same outcome, since a connection that breaks does not tell
whether the script ran. Only what DELETE returns differs: the second time, nothing was there.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from hashlib import sha1
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Args = tuple[Any, ...]


class Command(tuple[Any, ...]):
    """A command as it is sent; in tracebacks it shows its name, and nothing that is stored."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self[0]} and {len(self) - 1} arguments>"


class Script:
    """A Lua script and the digest by which the server knows it."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        # The server's own name for a script, not a matter of security.
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


class Call(NamedTuple):
    """One command for the server; with a script, the arguments after the script's name."""

    args: Args
    script: Script | None = None
    #: What to send instead when the call is tried again; None: the same.
    args_again: Args | None = None

    def command(self, *, again: bool = False, by_text: bool = False) -> Command:
        """Return what is sent: of a script its digest, or its text for a server that lost it."""
        args = self.args_again if again and self.args_again is not None else self.args
        if self.script is None:
            return Command(args)
        if by_text:
            return Command(("EVAL", self.script.text, *args))
        return Command(("EVALSHA", self.script.sha, *args))

    def __repr__(self) -> str:
        return f"<call of {self.command()!r}>"


class Unordered(list[Call]):
    """Calls that do not depend on each other, so that the nodes of a cluster may take turns."""


#: It yields the calls of one round trip, and is sent their answers.
Operation = Generator[Sequence[Call], list[Any], T]


#: Create or change a session, record its access, and let it expire when it ends.
#:
#: KEYS: the session. ARGV: ``create``, ``again`` (create, where a first try may have done it),
#: ``update``, ``mend`` (what is stored is damaged: nothing of it counts), or ``if`` and the serial
#: that it must still have; now; last access; the interval of a session that has none of its own;
#: the absolute timeout or ""; the milliseconds that it is kept at most, and those that it is kept
#: once it is over; "1" if all attributes go first; how many fields to remove; how many to guard;
#: the fields to remove; the fields to guard, each with the SHA-1 of the text that a dict in it must
#: still have; then fields to set, each with its value. Returns 1; 0 if the session is (not) there;
#: all fields with their values, and nothing is done, if a guarded one has another dict.
SAVE = Script("""\
local key, mode, now, accessed = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local function head()
  return redis.call('HMGET', key,
    'accessed', 'serial', 'created', 'until', 'a:_session_expiry', 'authenticated')
end
local found = head()
if mode == 'update' or mode == 'mend' then
  if not found[1] then return 0 end
elseif mode == 'create' or mode == 'again' then
  if found[1] and not (mode == 'again' and found[1] == accessed) then return 0 end
elseif not found[1] or mode ~= 'if ' .. (found[2] or '0') then
  return 0
end
local last = 10 + tonumber(ARGV[9])
local guarded = last + 2 * tonumber(ARGV[10])
for i = last + 1, guarded, 2 do
  local old = redis.call('HGET', key, ARGV[i])
  local text = old and string.match(old, '^%d+ ({.*)$')
  if text and redis.sha1hex(text) ~= ARGV[i + 1] then return redis.call('HGETALL', key) end
end
if mode ~= 'mend' and found[1] and (tonumber(found[1]) or 0) > tonumber(accessed) then
  accessed = found[1]
end

local is_changed, is_other_head = false, last > 10
if ARGV[8] == '1' then
  is_changed, is_other_head = true, true
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 2) == 'a:' then redis.call('HDEL', key, field) end
  end
end
for i = 11, last do
  is_changed = true
  redis.call('HDEL', key, ARGV[i])
end
local serial = tonumber(found[2]) or 0
if not (serial >= 0 and serial < 2 ^ 52) or serial % 1 ~= 0 then serial = 0 end
local place, sets = serial, {'accessed', accessed}
for i = guarded + 1, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  if string.sub(field, 1, 2) == 'a:' then
    local old = found[1] and redis.call('HGET', key, field)
    local kept = old and string.match(old, '^%d+')
    if not kept then
      place = place + 1
      kept = place
    end
    value = kept .. ' ' .. value
  end
  -- An entry in the index is no change of the session.
  is_changed = is_changed or field ~= 'listed'
  is_other_head = is_other_head
    or field == 'created' or field == 'until' or field == 'a:_session_expiry'
    or field == 'authenticated'
  sets[#sets + 1] = field
  sets[#sets + 1] = value
end
if is_changed then
  sets[#sets + 1] = 'serial'
  sets[#sets + 1] = math.max(place, serial + 1)
end
-- Lua takes some thousand arguments at once.
for i = 1, #sets, 2000 do
  redis.call('HSET', key, unpack(sets, i, math.min(i + 1999, #sets)))
end

if is_other_head then found = head() end
local expiry = found[5] and string.match(found[5], '^%d+ (.*)$')
local ends = tonumber(accessed) + tonumber(ARGV[4])
if expiry and tonumber(expiry) and tonumber(expiry) ~= 0 then
  ends = tonumber(accessed) + tonumber(expiry)
elseif expiry and string.sub(expiry, 1, 1) == '"' and found[4] then
  ends = tonumber(found[4]) or ends
end
if ends ~= ends then ends = tonumber(accessed) + tonumber(ARGV[4]) end
if ARGV[5] ~= '' then
  local began = tonumber(found[6] or found[3]) or now
  ends = math.min(ends, began + tonumber(ARGV[5]))
end
local left = math.ceil((ends - now) * 1000) + tonumber(ARGV[7])
left = math.max(0, math.min(left, tonumber(ARGV[6])))
redis.call('PEXPIRE', key, string.format('%.0f', left))
return 1
""")

#: Read a session for a reader of many.
#:
#: KEYS: the session. ARGV: bytes. Returns all fields with their values, or the bytes that it takes,
#: if these are more.
READ = Script("""\
local size = redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', '0')
if size and size > tonumber(ARGV[1]) then return size end
return redis.call('HGETALL', KEYS[1])
""")

#: Delete a session, if it is still as it was read.
#:
#: KEYS: the session. ARGV: the ``serial`` and the ``accessed`` that it must still have, "" for
#: any. Returns 1 and the JSON text of the id of the session's user, "" if nobody was logged in; 0
#: and the digest that the session has now, if its key was changed; and nil, if there is nothing or,
#: with nothing deleted, if it is not as it was read.
DELETE = Script("""\
local found = redis.call('HMGET', KEYS[1],
  'accessed', 'left', 'serial', 'a:_auth_user_id', 'moved_to')
local accessed = found[1] or found[2]
if not accessed and found[5] then return {0, found[5]} end
if ARGV[1] ~= '' and ARGV[1] ~= (found[3] or '0') then return nil end
if ARGV[2] ~= '' and ARGV[2] ~= accessed then return nil end
redis.call('DEL', KEYS[1])
if not accessed then return nil end
return {1, found[4] and string.match(found[4], '^%d+ (.*)$') or ''}
""")

#: Take a session away from its key, which changes: from now on it is not there any more.
#:
#: KEYS: the session. ARGV: the digest of its new key; now; the seconds after which the move of
#: another request has broken off. What was stored is kept under the old key, in a shape that is not
#: a session, until the request that changes the key calls FORGET. If it does not get there,
#: PUT_BACK undoes this, whenever the client comes. Returns all fields with their values, none if
#: the session is not there or another request is about to move it.
MOVE = Script("""\
local found = redis.call('HMGET', KEYS[1], 'accessed', 'left', 'moved_to', 'moved_at')
local accessed = found[1] or found[2]
local is_broken_off = (tonumber(found[4]) or 0) < tonumber(ARGV[2]) - tonumber(ARGV[3])
if not accessed or not (found[1] or found[3] == ARGV[1] or is_broken_off) then return {} end
redis.call('HSET', KEYS[1], 'moved_to', ARGV[1], 'moved_at', ARGV[2], 'left', accessed)
redis.call('HDEL', KEYS[1], 'accessed')
return redis.call('HGETALL', KEYS[1])
""")

#: Make a session again of what MOVE took away.
#:
#: KEYS: the session. Returns all fields with their values.
PUT_BACK = Script("""\
local found = redis.call('HMGET', KEYS[1], 'accessed', 'left')
if found[2] and not found[1] then
  redis.call('HSET', KEYS[1], 'accessed', found[2])
  redis.call('HDEL', KEYS[1], 'moved_to', 'moved_at', 'left')
end
return redis.call('HGETALL', KEYS[1])
""")

#: Delete what MOVE took away, and leave the digest that the session has now.
#:
#: KEYS: the session. ARGV: the digest of its new key; the milliseconds that this is kept. Returns
#: 1; 0 if the session was put back meanwhile; -1 if it was ended.
FORGET = Script("""\
local found = redis.call('HMGET', KEYS[1], 'accessed', 'left', 'moved_to')
if found[1] then return 0 end
if found[3] ~= ARGV[1] then return -1 end
if found[2] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'moved_to', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
""")

#: Note in a user's index until when a session may live, and drop those that must be gone by now.
#:
#: KEYS: the index, a sorted set. ARGV: now; the session's digest; until when; "1" if it is known
#: there for too long, else only a later time is noted. The index expires with the last of its
#: sessions.
LIST = Script("""\
if ARGV[4] == '1' then
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[2])
else
  redis.call('ZADD', KEYS[1], 'GT', ARGV[3], ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if last then
  local left = math.min(math.ceil((tonumber(last) - tonumber(ARGV[1])) * 1000), 1e14)
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left))
end
return 1
""")
