package otlp

import (
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// field reads the first field of a message, which is not empty: its number, 0 for
// a group, which is skipped; the bytes of a length-delimited field or the number
// of any other; and the rest of the message. ok is false where the bytes are no
// message.
func field(msg []byte) (num protowire.Number, b []byte, n uint64, rest []byte, ok bool) {
	// Nearly all fields have a tag of one byte, and a length of one.
	if tag := msg[0]; tag < 0x80 && tag&7 == byte(protowire.BytesType) && tag >= 8 && len(msg) > 1 && msg[1] < 0x80 {
		end := 2 + int(msg[1])
		if end > len(msg) {
			return 0, nil, 0, nil, false
		}
		return protowire.Number(tag >> 3), msg[2:end], 0, msg[end:], true
	}
	num, typ, size := protowire.ConsumeTag(msg)
	if size < 0 {
		return 0, nil, 0, nil, false
	}
	msg = msg[size:]
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
		num = 0
	}
	if size < 0 {
		return 0, nil, 0, nil, false
	}
	return num, b, n, msg[size:], true
}

// protoBody takes the records of a body; false where it is no message. The three
// signals have the same field numbers down to their records.
func (d *decoder) protoBody(body []byte, signal string) bool {
	for len(body) > 0 {
		num, b, _, rest, ok := field(body)
		if !ok || num == 1 && !d.protoGroup(b, signal) {
			return false
		}
		body = rest
	}
	return true
}

// protoGroup takes one resource and its records. The resource is looked for
// first: it holds for all records, and nothing says that it stands before them.
func (d *decoder) protoGroup(msg []byte, signal string) bool {
	d.resource = d.resource[:0]
	for left := msg; len(left) > 0; {
		num, b, _, rest, ok := field(left)
		if !ok {
			return false
		}
		left = rest
		for num == 1 && len(b) > 0 {
			inner, kv, _, more, ok := field(b)
			if !ok || inner == 1 && !d.protoAttr(&d.resource, kv) {
				return false
			}
			b = more
		}
	}
	d.base = d.source(d.resource)
	for len(msg) > 0 {
		num, b, _, rest, _ := field(msg) // which it is, as was just seen
		msg = rest
		for num == 2 && len(b) > 0 { // a scope and its records
			inner, one, _, more, ok := field(b)
			if !ok || inner == 2 && !d.protoRecord(one, signal) {
				return false
			}
			b = more
		}
	}
	return true
}

func (d *decoder) protoRecord(msg []byte, signal string) bool {
	switch signal {
	case Traces:
		return d.protoSpan(msg)
	case Logs:
		return d.protoLog(msg)
	}
	return d.protoMetric(msg)
}

// protoValue is a value whose text, if it is one, still lies in the body.
type protoValue struct {
	value
	text   []byte
	inBody bool
}

func (v *protoValue) read(msg []byte) bool {
	for len(msg) > 0 {
		num, b, n, rest, ok := field(msg)
		if !ok {
			return false
		}
		msg = rest
		switch num {
		case 1, 7:
			*v = protoValue{text: b, inBody: true}
		case 2:
			*v = protoValue{value: value{text: strconv.FormatBool(n != 0)}}
		case 3:
			*v = protoValue{value: value{number: float64(int64(n)), num: true}}
		case 4:
			*v = protoValue{value: value{number: math.Float64frombits(n), num: true}}
		case 5, 6:
			*v = protoValue{value: value{text: "[...]"}} // lists and maps do not fit an attribute
		}
	}
	return true
}

// kept returns a value that outlives the body.
func (d *decoder) kept(v *protoValue, own bool) value {
	if v.inBody {
		return value{text: d.text(v.text, own)}
	}
	return v.value
}

func (d *decoder) protoAttr(as *attrs, kv []byte) bool {
	var key []byte
	var v protoValue
	for len(kv) > 0 {
		num, b, _, rest, ok := field(kv)
		if !ok || num == 2 && !v.read(b) {
			return false
		}
		if num == 1 {
			key = b
		}
		kv = rest
	}
	name := d.m.Known(key)
	*as = append(*as, attr{name, d.kept(&v, unique(name))})
	return true
}

func (d *decoder) protoLog(msg []byte) bool {
	r := &d.rec
	r.reset()
	var observed int64
	var body []byte
	for len(msg) > 0 {
		num, b, n, rest, ok := field(msg)
		if !ok {
			return false
		}
		msg = rest
		switch num {
		case 1:
			r.start = nano(n)
		case 2:
			r.severity = int(n)
		case 5:
			var v protoValue
			if !v.read(b) {
				return false
			}
			text := d.kept(&v, false)
			r.body, body = text.string(), b
		case 6:
			if !d.protoAttr(&r.attrs, b) {
				return false
			}
		case 9:
			r.trace = b
		case 11:
			observed = nano(n)
		case 12:
			r.name = d.m.Known(b)
		}
	}
	if r.name != "" || r.attrs.has("event.name") {
		if !d.protoBodyAttrs(r, body) {
			return false
		}
	}
	if r.start == 0 {
		r.start = observed
	}
	d.record(Logs, r)
	return true
}

// protoBodyAttrs takes the members of an event's body, if it is a map, as
// attributes of the event: where conventions had what it says before they had
// attributes.
func (d *decoder) protoBodyAttrs(r *record, body []byte) bool {
	for len(body) > 0 {
		num, list, _, rest, ok := field(body)
		if !ok {
			return false
		}
		body = rest
		for num == 6 && len(list) > 0 {
			r.body = ""
			inner, kv, _, more, ok := field(list)
			if !ok || inner == 1 && !d.protoAttr(&r.attrs, kv) {
				return false
			}
			list = more
		}
	}
	return true
}

func (d *decoder) protoSpan(msg []byte) bool {
	r := &d.rec
	r.reset()
	for len(msg) > 0 {
		num, b, n, rest, ok := field(msg)
		if !ok {
			return false
		}
		msg = rest
		switch num {
		case 1:
			r.trace = b
		case 5:
			r.name = d.m.Known(b)
		case 6:
			r.kind = int(n)
		case 7:
			r.start = nano(n)
		case 8:
			r.end = nano(n)
		case 9:
			ok = d.protoAttr(&r.attrs, b)
		case 11:
			ok = d.protoEvent(r.event(), b)
		case 15:
			for len(b) > 0 && ok {
				var inner protowire.Number
				if inner, _, n, b, ok = field(b); inner == 3 {
					r.status = int(n)
				}
			}
		}
		if !ok {
			return false
		}
	}
	d.record(Traces, r)
	return true
}

// protoEvent reads an event of a span.
func (d *decoder) protoEvent(e *record, msg []byte) bool {
	for len(msg) > 0 {
		num, b, n, rest, ok := field(msg)
		if !ok || num == 3 && !d.protoAttr(&e.attrs, b) {
			return false
		}
		switch num {
		case 1:
			e.start = nano(n)
		case 2:
			e.name = d.m.Known(b)
		}
		msg = rest
	}
	return true
}

// The kinds of metrics, by the numbers of their fields.
const (
	gauge                = 5
	sum                  = 7
	histogram            = 9
	exponentialHistogram = 10
	summary              = 11
)

func (d *decoder) protoMetric(msg []byte) bool {
	var name, unit string
	n := 0
	for len(msg) > 0 {
		kind, b, _, rest, ok := field(msg)
		if !ok {
			return false
		}
		msg = rest
		switch kind {
		case 1:
			name = d.m.Known(b)
		case 3:
			unit = d.m.Known(b)
		case gauge, sum, histogram, exponentialHistogram, summary:
			for len(b) > 0 {
				inner, point, _, more, ok := field(b)
				if !ok {
					return false
				}
				b = more
				if inner != 1 {
					continue
				}
				if n == len(d.points) {
					d.points = append(d.points, record{})
				}
				if !d.protoPoint(&d.points[n], kind, point) {
					return false
				}
				n++
			}
		}
	}
	for i := range d.points[:n] {
		p := &d.points[i]
		p.name, p.unit = name, unit
		d.record(Metrics, p)
	}
	return true
}

// protoPoint reads a point. The kinds of points differ in their fields' numbers.
func (d *decoder) protoPoint(r *record, kind protowire.Number, msg []byte) bool {
	r.reset()
	plain := kind == gauge || kind == sum
	attributes := protowire.Number(7)
	switch kind {
	case histogram:
		attributes = 9
	case exponentialHistogram:
		attributes = 1
	}
	for len(msg) > 0 {
		num, b, n, rest, ok := field(msg)
		if !ok {
			return false
		}
		msg = rest
		switch {
		case num == attributes:
			if !d.protoAttr(&r.attrs, b) {
				return false
			}
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
	}
	return true
}

func nano(n uint64) int64 {
	if n > math.MaxInt64 {
		return 0
	}
	return int64(n)
}
