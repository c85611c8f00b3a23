-- The clock: milliseconds since 1970.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Which life of the server this is, as a number: one that has lost what was counted begins another.
local function life(key)
  local known = redis.call('GET', key)
  if known then return tonumber(known) end
  local time = redis.call('TIME')
  local born = tonumber(time[1]) * 1000000 + tonumber(time[2])
  redis.call('SET', key, string.format('%.0f', born))
  return born
end

-- A given time passes as a test wants it: by the server's, keys would go too early.
local function expire(key, ms)
  if ARGV[1] == '' then redis.call('PEXPIRE', key, ms) end
end

-- Months are counted from March of the year 0, in UTC.
-- Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (public domain).
local DAY = 86400000
local function month_of(ms)
  local shifted = math.floor(ms / DAY) + 719468
  local era = math.floor(shifted / 146097)
  local day = shifted - era * 146097
  local year = math.floor((day - math.floor(day / 1460) + math.floor(day / 36524) - math.floor(day / 146096)) / 365)
  local of_year = day - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  return (era * 400 + year) * 12 + math.floor((5 * of_year + 2) / 153)
end
local function month_start(month)
  local year = math.floor(month / 12)
  local era = math.floor(year / 400)
  year = year - era * 400
  local days = year * 365 + math.floor(year / 4) - math.floor(year / 100)
  return (era * 146097 + days + math.floor((153 * (month % 12) + 2) / 5) - 719468) * DAY
end

-- Slots have a length in milliseconds; length 0 stands for calendar months.
local function slot_of(ms, length)
  if length == 0 then return month_of(ms) end
  return math.floor(ms / length)
end
local function slot_start(slot, length)
  if length == 0 then return month_start(slot) end
  return slot * length
end
