// Package otlp reads OpenTelemetry's OTLP/HTTP bodies, protobuf and JSON, of
// traces, logs and metrics, by the semantic conventions for browsers, mobile
// apps, sessions, exceptions, crashes and web vitals. This is how Android, iOS,
// Flutter and React Native apps on OpenTelemetry come in. docs/formats/otlp.md
// says what becomes of each signal.
//
// Both encodings are read into the same small model, which holds only what
// becomes part of an event.
package otlp

import (
	"encoding/hex"
	"math"
	"strconv"

	"github.com/valyala/fastjson"
	"google.golang.org/protobuf/encoding/protowire"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

// value is an attribute's value: numbers are float64 whatever their encoding,
// since exporters write the same attribute now as an integer, now as a double.
type value struct {
	text   string
	number float64
	num    bool
}

func (v value) string() string {
	if v.num {
		return strconv.FormatFloat(v.number, 'g', -1, 64)
	}
	return v.text
}

// float returns the value as a number, and whether it is one.
func (v value) float() (float64, bool) {
	if v.num {
		return v.number, true
	}
	f, err := strconv.ParseFloat(v.text, 64)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}

type attr struct {
	key string
	val value
}

type attrs []attr

func (as attrs) get(keys ...string) value {
	for _, k := range keys {
		for i := range as {
			if as[i].key == k {
				return as[i].val
			}
		}
	}
	return value{}
}

func (as attrs) has(key string) bool {
	for i := range as {
		if as[i].key == key {
			return true
		}
	}
	return false
}

// record is a log record, a span, an event of a span or a point of a metric.
type record struct {
	name     string // of the event, the span or the metric
	body     string
	unit     string
	trace    []byte // as it was read; hexadecimal in JSON
	hex      bool   // it is in hexadecimal
	start    int64  // Unix ns; the time of a record
	end      int64  // Unix ns
	severity int
	kind     int // of a span
	status   int // of a span: 2 is an error
	attrs    attrs
	events   []record
	value    float64 // of a point
	count    float64 // of a histogram's point; 0 for plain numbers
	hasValue bool
}

// traceID returns the id of the record's trace, in hexadecimal.
func (r *record) traceID() string {
	if r.hex {
		return string(r.trace)
	}
	return hex.EncodeToString(r.trace)
}

// group is the records of one resource.
type group struct {
	resource attrs
	records  []record
}

// maxDepth bounds how deep the values of attributes nest.
const maxDepth = event.MaxDepth

// ---- JSON ----

// fromJSON reads the groups of a signal: outer, inner and list are the names
// of its arrays, such as resourceLogs, scopeLogs and logRecords.
func fromJSON(groups []*fastjson.Value, inner, list string, read func([]record, *fastjson.Value) []record) []group {
	var out []group
	for _, g := range groups {
		var one group
		one.resource = jsonAttrs(g.GetArray("resource", "attributes"))
		for _, scope := range g.GetArray(inner) {
			for _, r := range scope.GetArray(list) {
				one.records = read(one.records, r)
			}
		}
		out = append(out, one)
	}
	return out
}

func jsonAttrs(list []*fastjson.Value) attrs {
	as := make(attrs, 0, len(list))
	for _, kv := range list {
		as = append(as, attr{dialect.Text(kv, "key"), jsonValue(kv.Get("value"), 0)})
	}
	return as
}

func jsonValue(v *fastjson.Value, depth int) value {
	o := v.GetObject()
	if o == nil || depth > maxDepth {
		return value{}
	}
	var out value
	o.Visit(func(key []byte, m *fastjson.Value) {
		switch string(key) {
		case "stringValue", "bytesValue":
			out = value{text: string(m.GetStringBytes())}
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
	if n, err := strconv.ParseUint(dialect.Text(v, key), 10, 63); err == nil {
		return int64(n)
	}
	f, _ := dialect.Number(v, key)
	if f < 0 || f > math.MaxInt64/2 {
		return 0
	}
	return int64(f)
}

func jsonLog(out []record, v *fastjson.Value) []record {
	r := record{name: dialect.Text(v, "eventName"), body: jsonValue(v.Get("body"), 0).string(), start: jsonNano(v, "timeUnixNano"),
		severity: v.GetInt("severityNumber"), trace: v.GetStringBytes("traceId"), hex: true, attrs: jsonAttrs(v.GetArray("attributes"))}
	if r.start == 0 {
		r.start = jsonNano(v, "observedTimeUnixNano")
	}
	return append(out, r)
}

func jsonSpan(out []record, v *fastjson.Value) []record {
	r := record{name: dialect.Text(v, "name"), start: jsonNano(v, "startTimeUnixNano"), end: jsonNano(v, "endTimeUnixNano"),
		kind: jsonEnum(v.Get("kind"), spanKinds), status: jsonEnum(v.Get("status", "code"), statusCodes), trace: v.GetStringBytes("traceId"), hex: true, attrs: jsonAttrs(v.GetArray("attributes"))}
	for _, e := range v.GetArray("events") {
		r.events = append(r.events, record{name: dialect.Text(e, "name"), start: jsonNano(e, "timeUnixNano"), attrs: jsonAttrs(e.GetArray("attributes"))})
	}
	return append(out, r)
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

func jsonMetric(out []record, v *fastjson.Value) []record {
	name, unit := dialect.Text(v, "name"), dialect.Text(v, "unit")
	for _, kind := range []string{"gauge", "sum", "histogram", "exponentialHistogram", "summary"} {
		for _, p := range v.GetArray(kind, "dataPoints") {
			r := record{name: name, unit: unit, start: jsonNano(p, "timeUnixNano"), attrs: jsonAttrs(p.GetArray("attributes"))}
			for _, key := range []string{"asDouble", "asInt", "sum"} {
				if f, ok := dialect.Number(p, key); ok {
					r.value, r.hasValue = f, true
				}
			}
			r.count, _ = dialect.Number(p, "count")
			out = append(out, r)
		}
	}
	return out
}

// ---- protobuf ----

// fields calls fn for each field of a message. num is the field's number, b
// the bytes of a length-delimited field, n the number of any other. It returns
// false where the bytes are no message.
func fields(msg []byte, fn func(num protowire.Number, b []byte, n uint64) bool) bool {
	for len(msg) > 0 {
		num, typ, size := protowire.ConsumeTag(msg)
		if size < 0 {
			return false
		}
		msg = msg[size:]
		var b []byte
		var n uint64
		switch typ {
		case protowire.BytesType:
			b, size = protowire.ConsumeBytes(msg)
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(msg)
		case protowire.Fixed64Type:
			n, size = protowire.ConsumeFixed64(msg)
		case protowire.Fixed32Type:
			var n32 uint32
			n32, size = protowire.ConsumeFixed32(msg)
			n = uint64(n32)
		default:
			size = protowire.ConsumeFieldValue(num, typ, msg)
		}
		if size < 0 {
			return false
		}
		msg = msg[size:]
		if typ == protowire.StartGroupType {
			continue
		}
		if !fn(num, b, n) {
			return false
		}
	}
	return true
}

// fromProto reads the groups of a signal. The three signals have the same
// field numbers down to their records.
func fromProto(body []byte, read func([]record, []byte) ([]record, bool)) ([]group, bool) {
	var out []group
	ok := fields(body, func(num protowire.Number, b []byte, _ uint64) bool {
		if num != 1 {
			return true
		}
		var g group
		ok := fields(b, func(num protowire.Number, b []byte, _ uint64) bool {
			switch num {
			case 1: // resource
				return fields(b, func(num protowire.Number, b []byte, _ uint64) bool {
					return num != 1 || protoAttr(&g.resource, b)
				})
			case 2: // scope and its records
				return fields(b, func(num protowire.Number, b []byte, _ uint64) bool {
					if num != 2 {
						return true
					}
					var ok bool
					g.records, ok = read(g.records, b)
					return ok
				})
			}
			return true
		})
		out = append(out, g)
		return ok
	})
	return out, ok
}

func protoAttr(as *attrs, kv []byte) bool {
	var a attr
	ok := fields(kv, func(num protowire.Number, b []byte, _ uint64) bool {
		switch num {
		case 1:
			a.key = string(b)
		case 2:
			return protoValue(&a.val, b)
		}
		return true
	})
	if *as == nil {
		*as = make(attrs, 0, 8) // as many as most records have
	}
	*as = append(*as, a)
	return ok
}

func protoValue(v *value, msg []byte) bool {
	return fields(msg, func(num protowire.Number, b []byte, n uint64) bool {
		switch num {
		case 1, 7:
			*v = value{text: string(b)}
		case 2:
			*v = value{text: strconv.FormatBool(n != 0)}
		case 3:
			*v = value{number: float64(int64(n)), num: true}
		case 4:
			*v = value{number: math.Float64frombits(n), num: true}
		case 5, 6:
			*v = value{text: "[...]"} // lists and maps do not fit an attribute
		}
		return true
	})
}

func protoLog(out []record, msg []byte) ([]record, bool) {
	out = append(out, record{})
	r := &out[len(out)-1]
	var observed int64
	ok := fields(msg, func(num protowire.Number, b []byte, n uint64) bool {
		switch num {
		case 1:
			r.start = nano(n)
		case 2:
			r.severity = int(n)
		case 5:
			var v value
			if !protoValue(&v, b) {
				return false
			}
			r.body = v.string()
		case 6:
			return protoAttr(&r.attrs, b)
		case 9:
			r.trace = b
		case 11:
			observed = nano(n)
		case 12:
			r.name = string(b)
		}
		return true
	})
	if r.start == 0 {
		r.start = observed
	}
	return out, ok
}

func protoSpan(out []record, msg []byte) ([]record, bool) {
	out = append(out, record{})
	r := &out[len(out)-1]
	ok := fields(msg, func(num protowire.Number, b []byte, n uint64) bool {
		switch num {
		case 1:
			r.trace = b
		case 5:
			r.name = string(b)
		case 6:
			r.kind = int(n)
		case 7:
			r.start = nano(n)
		case 8:
			r.end = nano(n)
		case 9:
			return protoAttr(&r.attrs, b)
		case 11:
			var e record
			ok := fields(b, func(num protowire.Number, b []byte, n uint64) bool {
				switch num {
				case 1:
					e.start = nano(n)
				case 2:
					e.name = string(b)
				case 3:
					return protoAttr(&e.attrs, b)
				}
				return true
			})
			r.events = append(r.events, e)
			return ok
		case 15:
			return fields(b, func(num protowire.Number, _ []byte, n uint64) bool {
				if num == 3 {
					r.status = int(n)
				}
				return true
			})
		}
		return true
	})
	return out, ok
}

func protoMetric(points []record, msg []byte) ([]record, bool) {
	var name, unit string
	from := len(points)
	ok := fields(msg, func(num protowire.Number, b []byte, _ uint64) bool {
		switch num {
		case 1:
			name = string(b)
		case 3:
			unit = string(b)
		case 5, 7, 9, 10, 11:
			kind := num
			return fields(b, func(num protowire.Number, b []byte, _ uint64) bool {
				if num != 1 {
					return true
				}
				r, ok := protoPoint(kind, b)
				points = append(points, r)
				return ok
			})
		}
		return true
	})
	for i := from; i < len(points); i++ {
		points[i].name, points[i].unit = name, unit
	}
	return points, ok
}

// protoPoint reads a point. The kinds of points differ in their fields'
// numbers: 5 gauge, 7 sum, 9 histogram, 10 exponential histogram, 11 summary.
func protoPoint(kind protowire.Number, msg []byte) (record, bool) {
	var r record
	plain := kind == 5 || kind == 7
	attributes := map[protowire.Number]protowire.Number{5: 7, 7: 7, 9: 9, 10: 1, 11: 7}[kind]
	ok := fields(msg, func(num protowire.Number, b []byte, n uint64) bool {
		switch {
		case num == attributes:
			return protoAttr(&r.attrs, b)
		case num == 3:
			r.start = nano(n)
		case num == 4 && plain:
			r.value, r.hasValue = math.Float64frombits(n), true
		case num == 6 && plain:
			r.value, r.hasValue = float64(int64(n)), true
		case num == 4:
			r.count = float64(n)
		case num == 5 && !plain:
			r.value, r.hasValue = math.Float64frombits(n), true
		}
		return true
	})
	return r, ok
}

func nano(n uint64) int64 {
	if n > math.MaxInt64 {
		return 0
	}
	return int64(n)
}
