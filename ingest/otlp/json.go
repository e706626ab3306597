package otlp

import (
	"math"
	"strconv"

	"github.com/valyala/fastjson"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

// jsonNames are what the arrays of a signal are called, from the outermost.
var jsonNames = map[string]struct{ groups, scopes, records string }{
	Traces:  {"resourceSpans", "scopeSpans", "spans"},
	Logs:    {"resourceLogs", "scopeLogs", "logRecords"},
	Metrics: {"resourceMetrics", "scopeMetrics", "metrics"},
}

func (d *decoder) jsonBody(v *fastjson.Value, signal string) error {
	groups := jsonNames[signal].groups
	if g := v.Get(groups); g != nil && g.Type() != fastjson.TypeArray && g.Type() != fastjson.TypeNull {
		return &dialect.Error{Reason: event.ReasonType, Field: groups, Value: g.Type().String(), Want: "an array"}
	}
	for _, g := range v.GetArray(groups) {
		d.resource = d.jsonAttrs(d.resource[:0], g.GetArray("resource", "attributes"))
		d.base = d.source(d.resource)
		d.jsonScopes(g, signal)
	}
	return nil
}

// jsonScopes takes the records of one resource, whose source is d.base.
func (d *decoder) jsonScopes(g *fastjson.Value, signal string) {
	names := jsonNames[signal]
	for _, scope := range g.GetArray(names.scopes) {
		for _, v := range scope.GetArray(names.records) {
			if v.Type() != fastjson.TypeObject {
				d.b.Reject(event.ReasonType, names.records, v.Type().String(), "an object")
				continue
			}
			switch signal {
			case Traces:
				d.jsonSpan(v)
			case Logs:
				d.jsonLog(v)
			case Metrics:
				d.jsonMetric(v)
			}
		}
	}
}

func (d *decoder) jsonAttrs(as attrs, list []*fastjson.Value) attrs {
	for _, kv := range list {
		key := d.r.Text(kv, "key")
		as = append(as, attr{key, d.jsonValue(kv.Get("value"), unique(key))})
	}
	return as
}

func (d *decoder) jsonValue(v *fastjson.Value, own bool) value {
	o := v.GetObject()
	if o == nil {
		return value{}
	}
	var out value
	o.Visit(func(key []byte, m *fastjson.Value) {
		switch string(key) {
		case "stringValue", "bytesValue":
			out = value{text: d.text(m.GetStringBytes(), own)}
		case "boolValue":
			out = value{text: strconv.FormatBool(m.GetBool())}
		case "intValue", "doubleValue":
			if f, ok := dialect.Number(m); ok {
				out = value{number: f, num: true}
			} else {
				out = value{text: dialect.Text(m)} // NaN and infinities are texts in JSON
			}
		case "arrayValue", "kvlistValue":
			out = value{text: dialect.Clip(m.String(), event.MaxText)}
		}
	})
	return out
}

// jsonNano reads a time in nanoseconds, which is a text by the mapping of
// 64-bit integers and a number by some exporters.
func jsonNano(v *fastjson.Value, key string) int64 {
	m := v.Get(key)
	if m == nil {
		return 0
	}
	text := m.GetStringBytes()
	if m.Type() == fastjson.TypeNumber {
		text = m.MarshalTo(nil)
	}
	if n, err := strconv.ParseUint(string(text), 10, 63); err == nil {
		return int64(n)
	}
	f, _ := dialect.Number(m)
	if f < 0 || f > math.MaxInt64/2 {
		return 0
	}
	return int64(f)
}

func (d *decoder) jsonLog(v *fastjson.Value) {
	r := &d.rec
	r.reset()
	r.name, r.body, r.start = d.r.Text(v, "eventName"), d.jsonValue(v.Get("body"), false).string(), jsonNano(v, "timeUnixNano")
	r.severity, r.trace, r.hex = v.GetInt("severityNumber"), v.GetStringBytes("traceId"), true
	r.attrs = d.jsonAttrs(r.attrs, v.GetArray("attributes"))
	if list := v.GetArray("body", "kvlistValue", "values"); list != nil && (r.name != "" || r.attrs.has("event.name")) {
		r.attrs, r.body = d.jsonAttrs(r.attrs, list), ""
	}
	if r.start == 0 {
		r.start = jsonNano(v, "observedTimeUnixNano")
	}
	d.record(Logs, r)
}

func (d *decoder) jsonSpan(v *fastjson.Value) {
	r := &d.rec
	r.reset()
	r.name, r.start, r.end = d.r.Text(v, "name"), jsonNano(v, "startTimeUnixNano"), jsonNano(v, "endTimeUnixNano")
	r.kind, r.status = jsonEnum(v.Get("kind"), spanKinds), jsonEnum(v.Get("status", "code"), statusCodes)
	r.trace, r.hex = v.GetStringBytes("traceId"), true
	r.told = d.told[string(v.GetStringBytes("spanId"))]
	r.attrs = d.jsonAttrs(r.attrs, v.GetArray("attributes"))
	for _, m := range v.GetArray("events") {
		e := r.event()
		e.name, e.start = d.r.Text(m, "name"), jsonNano(m, "timeUnixNano")
		e.attrs = d.jsonAttrs(e.attrs, m.GetArray("attributes"))
	}
	d.record(Traces, r)
}

var (
	spanKinds   = map[string]int{"SPAN_KIND_INTERNAL": 1, "SPAN_KIND_SERVER": 2, "SPAN_KIND_CLIENT": 3, "SPAN_KIND_PRODUCER": 4, "SPAN_KIND_CONSUMER": 5}
	statusCodes = map[string]int{"STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}
)

// jsonEnum reads an enum, which OTLP writes as a number and protobuf's own
// JSON as a name.
func jsonEnum(v *fastjson.Value, names map[string]int) int {
	if v == nil {
		return 0
	}
	if v.Type() == fastjson.TypeString {
		return names[string(v.GetStringBytes())]
	}
	return v.GetInt()
}

func (d *decoder) jsonMetric(v *fastjson.Value) {
	name, unit := d.r.Text(v, "name"), d.r.Text(v, "unit")
	for _, kind := range []string{"gauge", "sum", "histogram", "exponentialHistogram", "summary"} {
		for _, p := range v.GetArray(kind, "dataPoints") {
			r := &d.rec
			r.reset()
			r.name, r.unit, r.start = name, unit, jsonNano(p, "timeUnixNano")
			r.attrs = d.jsonAttrs(r.attrs, p.GetArray("attributes"))
			for _, key := range []string{"asDouble", "asInt", "sum"} {
				if f, ok := dialect.Number(p, key); ok {
					r.value, r.hasValue = f, true
				}
			}
			r.count, _ = dialect.Number(p, "count")
			d.record(Metrics, r)
		}
	}
}
