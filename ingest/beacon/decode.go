package beacon

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"serin.dev/serin/ingest/intern"
	"serin.dev/serin/internal/event"
)

// maxNumber is how many characters a number may have where it is used. JSON
// sets no bound, and the exact value of a megabyte of digits helps nobody.
const maxNumber = 128

// Decoder reads beacons. The zero Decoder is ready. It keeps scratch and a
// bounded table of strings (at most 128 KiB) from beacon to beacon, so reuse
// it; it is not safe for concurrent use.
type Decoder struct {
	Tenancy event.Tenancy // of beacons that name none

	s        scanner
	m        intern.Memory
	event    int // index of the event that is read, -1 outside of the events
	bad      bool
	sub      string // the key within the field, where keys are the client's to choose
	rejected []Rejection
}

// Decode reads one body into b, which it empties first and whose memory it
// reuses. It returns the events that it left out, in the order of the client's
// array, or an [*Error] of the class [ErrMalformed], and then b is empty.
//
// Nothing in b or in the answers aliases body. Received is left 0, for the
// caller to set, and Ctx.Country is left empty, whatever the client says. Texts
// of b may share memory with one another: clone one that is to outlive the
// others by far. Its lists of attributes are the decoder's, and written again with the
// next body.
func (d *Decoder) Decode(body []byte, b *event.Beacon) (rejected []Rejection, err error) {
	b.Reset()
	d.m.Reuse()
	if len(body) > event.MaxBody {
		return nil, &Error{Reason: event.ReasonSize, Field: "body", Value: strconv.Itoa(len(body)) + " bytes",
			Want: fmt.Sprintf("at most %d bytes", event.MaxBody)}
	}
	s := &d.s
	s.data, s.pos, s.depth, s.fault = body, 0, 0, nil
	d.event, d.bad, d.sub, d.rejected = -1, false, "", nil

	b.Tenancy = d.Tenancy
	d.envelope(b)
	if s.peek(); s.pos < len(body) {
		s.broken("nothing after the beacon")
	}
	s.data = nil
	if s.fault != nil {
		b.Reset()
		return nil, s.fault
	}
	return d.rejected, nil
}

// fail reports a fault of a field: inside of an event it rejects the event, of
// which the first fault is told, and elsewhere it refuses the beacon.
func (d *Decoder) fail(r event.Reason, field string, value []byte, want string) {
	if d.s.fault != nil || d.event >= 0 && d.bad {
		return
	}
	if d.sub != "" {
		field += "." + shown([]byte(d.sub))
	}
	if d.event < 0 {
		d.s.fault = &Error{Reason: r, Field: field, Value: shown(value), Want: want}
		return
	}
	d.bad = true
	path := "events[" + strconv.Itoa(d.event) + "]"
	if field != "" {
		path += "." + field
	}
	d.rejected = append(d.rejected, Rejection{Index: d.event, Reason: r, Field: path, Value: shown(value), Want: want})
}

// wrongType reads a value that is not of the type that its field has. Where it
// is no JSON either, that is the fault which is told.
func (d *Decoder) wrongType(field, want string) {
	start := d.s.pos
	d.s.skip()
	if d.s.fault == nil {
		d.fail(event.ReasonType, field, d.s.data[start:d.s.pos], want)
	}
}

// object goes into the object at pos, or reports that there is none.
func (d *Decoder) object(field string) bool {
	if d.s.peek() != '{' {
		d.wrongType(field, "an object")
		return false
	}
	d.s.enter()
	return true
}

// once reports whether a key of a level is there for the first time; a second
// one is a fault, since which of the two holds is for every reader to guess.
func (d *Decoder) once(seen *uint, bit uint, prefix, key string) bool {
	if *seen&bit != 0 {
		d.twice(prefix + key)
		d.s.skip()
		return false
	}
	*seen |= bit
	return true
}

func (d *Decoder) twice(field string) {
	d.fail(event.ReasonDupKey, field, nil, "each key once")
}

// length is what may be long how long.
type length struct{ least, most int }

func (l length) String() string {
	if l.least == 0 {
		return fmt.Sprintf("a text of at most %d bytes", l.most)
	}
	return fmt.Sprintf("a text of %d to %d bytes", l.least, l.most)
}

var (
	nameLength = length{1, event.MaxName}
	sdkLength  = length{0, event.MaxName}
	textLength = length{0, event.MaxText}
)

// raw reads a text of any length, for callers that have more to say of it. What
// it returns is cut somewhere behind the length, and holds until the next text.
func (d *Decoder) raw(field string, l length) (b []byte, ok bool) {
	if d.s.peek() != '"' {
		d.wrongType(field, l.String())
		return nil, false
	}
	b, escaped := d.s.str()
	if escaped {
		d.s.buf = unescape(d.s.buf[:0], b, l.most)
		b = d.s.buf
	}
	return b, d.s.fault == nil
}

// text reads a text within the length.
func (d *Decoder) text(field string, l length) (b []byte, ok bool) {
	b, ok = d.raw(field, l)
	return b, ok && d.fits(field, b, l)
}

func (d *Decoder) fits(field string, b []byte, l length) bool {
	if len(b) < l.least || len(b) > l.most {
		d.fail(event.ReasonLength, field, b, l.String())
		return false
	}
	return true
}

// name reads a text that repeats from beacon to beacon.
func (d *Decoder) name(field string, l length) string {
	b, ok := d.text(field, l)
	if !ok {
		return ""
	}
	return d.m.Known(b)
}

// own reads a text that does not repeat.
func (d *Decoder) own(field string, l length) string {
	b, ok := d.text(field, l)
	if !ok {
		return ""
	}
	return d.m.Own(b)
}

// span is what an integer may be, what it is if that says more, and the reason
// for refusing others.
type span struct {
	least, most int64
	what        string
	outside     event.Reason
}

func (r span) String() string {
	if r.least == r.most {
		return strconv.FormatInt(r.least, 10)
	}
	return fmt.Sprintf("%s, an integer from %d to %d", r.what, r.least, r.most)
}

var (
	versionSpan = span{event.SchemaVersion, event.SchemaVersion, "", event.ReasonVersion}
	seqSpan     = span{0, math.MaxUint32, "a sequence number", event.ReasonRange}
	countSpan   = span{1, event.MaxMagnitude, "a count", event.ReasonRange}
	timeSpan    = span{0, event.MaxMagnitude, "Unix milliseconds", event.ReasonClock}
)

// integer reads an integer that is written as one: 7 and not 7.0 or 7e0, which
// only a broken client sends.
func (d *Decoder) integer(field string, r span) int64 {
	if c := d.s.peek(); c != '-' && (c < '0' || c > '9') {
		d.wrongType(field, r.String())
		return 0
	}
	start := d.s.pos
	if n, behind, ok := d.s.shortNumber(); ok {
		if behind == 0 && n >= r.least && n <= r.most {
			return n
		}
		d.s.pos = start // to be told what is wrong with it
	}
	raw, integer := d.s.number()
	if d.s.fault != nil {
		return 0
	}
	if !integer {
		d.fail(event.ReasonType, field, raw, r.String())
		return 0
	}
	n, ok := parseInt(raw)
	if !ok || n < r.least || n > r.most {
		d.fail(r.outside, field, raw, r.String())
		return 0
	}
	return n
}

// parseInt reads an integer of at most 18 digits: more than that is out of
// every span.
func parseInt(raw []byte) (n int64, ok bool) {
	digits := bytes.TrimPrefix(raw, []byte("-"))
	if len(digits) > 18 {
		return 0, false
	}
	for _, c := range digits {
		n = n*10 + int64(c-'0')
	}
	if len(digits) < len(raw) {
		n = -n
	}
	return n, true
}

var wantNumber = fmt.Sprintf("a number from -%g to %[1]g of at most %d characters", float64(event.MaxMagnitude), maxNumber)

// number reads a number that is kept as a float64.
func (d *Decoder) number(field string) (f float64, ok bool) {
	if c := d.s.peek(); c != '-' && (c < '0' || c > '9') {
		d.wrongType(field, wantNumber)
		return 0, false
	}
	if n, behind, ok := d.s.shortNumber(); ok { // at most 10¹⁵, as is allowed
		return float64(n) / pow10[behind], true
	}
	raw, _ := d.s.number()
	if d.s.fault != nil {
		return 0, false
	}
	if len(raw) > maxNumber {
		d.fail(event.ReasonRange, field, raw, wantNumber)
		return 0, false
	}
	if f = float(raw); math.Abs(f) > event.MaxMagnitude {
		d.fail(event.ReasonRange, field, raw, wantNumber)
		return 0, false
	}
	return f, true
}
