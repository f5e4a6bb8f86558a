"""The scripts that run inside the Redis server. Each is atomic, and uses the keys of one slot.

A session is a hash. A field ``a:NAME`` is an attribute: its place in the order of first setting, a
space, its JSON text. The other fields are ``created``, ``accessed`` and ``authenticated`` (the last
login, optional) in seconds since the epoch, ``interval``, ``until`` (the end, if it is a fixed
date), ``listed`` (the time until which the index of a user's sessions names it, a space, the JSON
text of the user's id), and ``serial``, which grows with every change and numbers the places. A
session exists if it has ``accessed``. During a change of key, ``left`` replaces ``accessed``, with
``moved_to`` (the digest of the new key) and ``moved_at``. After the change, only ``moved_to`` stays
for a while.

After a broken connection, it is unknown whether a script ran. So each script can run twice with
the same outcome. Only DELETE returns another answer: the second time, the session is gone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from hashlib import sha1
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Args = tuple[Any, ...]


class Command(tuple[Any, ...]):
    """A command to send. In tracebacks it shows its name, and no data."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self[0]} and {len(self) - 1} arguments>"


class Script:
    """A Lua script and its digest on the server."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        # The server names a script by its SHA-1.
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


class Call(NamedTuple):
    """One command for the server; with a script, the arguments after the script's name."""

    args: Args
    script: Script | None = None
    #: The arguments for a repeated call; None for the same arguments.
    args_again: Args | None = None

    def command(self, *, again: bool = False, by_text: bool = False) -> Command:
        """Return the command; it names a script by its digest, or has its text (``by_text``)."""
        args = self.args_again if again and self.args_again is not None else self.args
        if self.script is None:
            return Command(args)
        if by_text:
            return Command(("EVAL", self.script.text, *args))
        return Command(("EVALSHA", self.script.sha, *args))

    def __repr__(self) -> str:
        return f"<call of {self.command()!r}>"


class Unordered(list[Call]):
    """Calls in any order: on a cluster, each node gets all its calls in one round trip."""


#: A generator that yields the calls of one round trip and receives their answers.
Operation = Generator[Sequence[Call], list[Any], T]


#: Create or change a session, record its access, and set its expiry.
#:
#: KEYS: the session. ARGV: the mode, which is ``create``, ``again`` (create, but the first try may
#: have succeeded), ``update``, ``mend`` (replace a damaged session), or ``if`` and the required
#: serial; now; the last access; the default interval; the absolute timeout or ""; the longest time
#: to keep the session, and the time to keep it after its end, in milliseconds; "1" to remove all
#: attributes first; the number of fields to remove; the number of guards; the fields to remove; the
#: guards, each a field and the SHA-1 that its text must have if it is a dict; the fields to set,
#: each with its value. Returns 1; 0 if the session exists (to create it) or does not; all fields
#: and values, without a change, if a guard fails.
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
  -- An entry in the index is not a change of the session.
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
-- Lua's limit is some thousand arguments.
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

#: Read a session if it is not too large.
#:
#: KEYS: the session. ARGV: bytes. Returns all fields and values; or the size in bytes, if it is
#: larger.
READ = Script("""\
local size = redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', '0')
if size and size > tonumber(ARGV[1]) then return size end
return redis.call('HGETALL', KEYS[1])
""")

#: Delete a session if it has not changed.
#:
#: KEYS: the session. ARGV: the required ``serial`` and ``accessed``, "" for any. Returns 1 and the
#: JSON text of the user's id, "" for an anonymous session; 0 and the new digest, if its key was
#: changed; nil, without a deletion, if it has changed or does not exist.
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

#: Begin a change of key: the session stops to exist under its old key.
#:
#: KEYS: the session. ARGV: the digest of its new key; now; the seconds after which the change of
#: another request counts as broken off. The data stays under the old key until FORGET. If the
#: request does not call FORGET, PUT_BACK restores the session when its client comes. Returns all
#: fields and values; nothing if the session does not exist or another request is changing its key.
MOVE = Script("""\
local found = redis.call('HMGET', KEYS[1], 'accessed', 'left', 'moved_to', 'moved_at')
local accessed = found[1] or found[2]
local is_broken_off = (tonumber(found[4]) or 0) < tonumber(ARGV[2]) - tonumber(ARGV[3])
if not accessed or not (found[1] or found[3] == ARGV[1] or is_broken_off) then return {} end
redis.call('HSET', KEYS[1], 'moved_to', ARGV[1], 'moved_at', ARGV[2], 'left', accessed)
redis.call('HDEL', KEYS[1], 'accessed')
return redis.call('HGETALL', KEYS[1])
""")

#: Undo MOVE.
#:
#: KEYS: the session. Returns all fields and values.
PUT_BACK = Script("""\
local found = redis.call('HMGET', KEYS[1], 'accessed', 'left')
if found[2] and not found[1] then
  redis.call('HSET', KEYS[1], 'accessed', found[2])
  redis.call('HDEL', KEYS[1], 'moved_to', 'moved_at', 'left')
end
return redis.call('HGETALL', KEYS[1])
""")

#: Finish a change of key: replace the data under the old key with the new digest.
#:
#: KEYS: the session. ARGV: the digest of its new key; the milliseconds to keep it. Returns 1; 0 if
#: the session was put back meanwhile; -1 if it was ended.
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

#: Store in a user's index the time until which a session may live, and drop past sessions.
#:
#: KEYS: the index, a sorted set. ARGV: now; the session's digest; the time; "1" to replace a later
#: time too. The index expires with the last of its sessions.
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
