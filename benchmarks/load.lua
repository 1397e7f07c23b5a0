-- What wrk is to ask for: METHOD BODY PATH..., the paths in rotation. The end of the run is told as one line of JSON.

local calls, last = {}, 0

function init(arguments)
   local method, body = arguments[1], arguments[2]
   if body == "" then body = nil end
   for number = 3, #arguments do
      calls[number - 2] = wrk.format(method, arguments[number], nil, body)
   end
end

function request()
   last = last % #calls + 1
   return calls[last]
end

function done(summary, latency)
   local errors = summary.errors
   -- Times are in microseconds.
   print(string.format(
      '{"calls": %d, "failed": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "slowest": %.3f}',
      summary.requests,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      summary.duration / 1e6,
      latency:percentile(50) / 1e3,
      latency:percentile(99) / 1e3,
      latency.max / 1e3
   ))
end
