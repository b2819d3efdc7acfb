-- Sends one request over and over, or each token of a file once; ends with one line of JSON for the bench to read.
-- Arguments after "--": METHOD BODY_BYTES TOKENS_FILE ("-" where there is none).

local function each_token_once(path)
  local ready, position = {}, 0
  for line in io.lines(path) do
    wrk.headers["Authorization"] = "Bearer " .. line
    ready[#ready + 1] = wrk.format()
  end
  return function()
    position = position + 1
    if position >= #ready then
      wrk.thread:stop()
      position = #ready
    end
    return ready[position]
  end
end

function init(args)
  wrk.method = args[1] or "GET"
  local size = tonumber(args[2] or "0")
  if size > 0 then
    wrk.body = string.rep("x", size)
  end
  if args[3] and args[3] ~= "-" then
    request = each_token_once(args[3])
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nBENCH {"requests": %d, "duration_us": %d, "bytes": %d, ' ..
    '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout))
end
