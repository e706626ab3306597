package beacon

import (
	"fmt"
	"strings"

	"serin.dev/serin/internal/event"
)

// The keys of an event, as bits of what has been seen.
const (
	keyK = 1 << iota
	keyN
	keyT
	keyVal
	keyM
	keyS
	keyU
	keyA
)

var (
	messageLength = length{0, event.MaxMessage}
	stackLength   = length{0, event.MaxStack}
	unitLength    = length{0, event.MaxUnit}

	wantKind = "one of " + strings.Join(event.Kinds(), ", ")
	wantAttr = "a text, a number, a boolean or null"
)

func (d *Decoder) events(b *event.Beacon) {
	if d.s.peek() != '[' {
		d.wrongType("events", "an array")
		return
	}
	d.s.enter()
	n := 0
	for ok := d.s.element(true); ok; ok = d.s.element(false) {
		if n == event.MaxEvents {
			d.fail(event.ReasonCount, "events", nil, fmt.Sprintf("at most %d events", event.MaxEvents))
			return
		}
		d.event, d.bad = n, false
		if at := len(b.Events); at < cap(b.Events) { // clears in place, where append would copy an empty one
			b.Events = b.Events[:at+1]
			b.Events[at] = event.One{}
		} else {
			b.Events = append(b.Events, event.One{})
		}
		d.one(&b.Events[len(b.Events)-1])
		if d.bad {
			b.Events[len(b.Events)-1] = event.One{}
			b.Events = b.Events[:len(b.Events)-1]
		}
		d.event = -1
		n++
	}
}

// one reads an event. A fault does not end it: the rest must still be JSON, and
// pos must come to stand behind it.
func (d *Decoder) one(e *event.One) {
	if !d.object("") {
		return
	}
	s := &d.s
	var seen uint
	for key, ok := s.member(true); ok; key, ok = s.member(false) {
		switch string(key) {
		case "k":
			if d.once(&seen, keyK, "", "k") {
				e.Kind = d.kind()
			}
		case "n":
			if d.once(&seen, keyN, "", "n") {
				e.Name = d.name("n", nameLength)
			}
		case "t":
			if d.once(&seen, keyT, "", "t") {
				e.Time = d.integer("t", timeSpan)
			}
		case "v":
			if d.once(&seen, keyVal, "", "v") {
				e.Value, e.HasVal = d.number("v")
			}
		case "m":
			if d.once(&seen, keyM, "", "m") {
				e.Message = d.own("m", messageLength)
			}
		case "s":
			if d.once(&seen, keyS, "", "s") {
				e.Stack = d.own("s", stackLength)
			}
		case "u":
			if d.once(&seen, keyU, "", "u") {
				e.Unit = d.name("u", unitLength)
			}
		case "a":
			if d.once(&seen, keyA, "", "a") {
				e.Attrs = d.attrs()
			}
		default:
			s.skip()
		}
	}
	if s.fault != nil || d.bad {
		return
	}
	switch {
	case seen&keyK == 0:
		d.fail(event.ReasonMissing, "k", nil, wantKind)
	case seen&keyN == 0:
		d.fail(event.ReasonMissing, "n", nil, nameLength.String())
	case seen&keyT == 0:
		d.fail(event.ReasonMissing, "t", nil, timeSpan.String())
	default:
		d.sense(e)
	}
}

func (d *Decoder) kind() event.Kind {
	if d.s.peek() != '"' {
		d.wrongType("k", wantKind)
		return event.NoKind
	}
	raw, _ := d.raw("k", nameLength)
	k, ok := event.ParseKind(raw)
	if !ok {
		d.fail(event.ReasonKind, "k", raw, wantKind)
	}
	return k
}

// sense checks what an event says against what its kind means, and gives it
// its unit.
func (d *Decoder) sense(e *event.One) {
	switch e.Kind {
	case event.Vital:
		unit := "ms"
		switch e.Name {
		case "LCP", "INP", "FCP", "TTFB", "FID":
		case "CLS":
			unit = ""
		default:
			d.fail(event.ReasonName, "n", []byte(e.Name), "LCP, INP, CLS, FCP, TTFB or FID")
			return
		}
		if !e.HasVal {
			d.fail(event.ReasonMissing, "v", nil, wantNumber)
			return
		}
		d.duration(e, unit)
	case event.Request, event.LongTask, event.Start, event.Resource:
		d.duration(e, "ms")
	case event.Exposure:
		arm, ok := e.Attr("arm")
		switch {
		case !ok:
			d.fail(event.ReasonMissing, "a.arm", nil, "the variant that the session is on, "+nameLength.String())
		case arm.Num:
			d.fail(event.ReasonType, "a.arm", fmt.Append(nil, arm.Number), nameLength.String())
		default:
			d.fits("a.arm", []byte(arm.Text), nameLength)
		}
	}
}

// duration checks a value that cannot be negative and has a unit that is
// fixed: a second that is taken for a millisecond would make any release look
// fast.
func (d *Decoder) duration(e *event.One, unit string) {
	switch {
	case e.Value < 0:
		d.fail(event.ReasonRange, "v", fmt.Append(nil, e.Value), "0 or more")
	case e.Unit != "" && e.Unit != unit:
		want := "no unit"
		if unit != "" {
			want = unit + " or none"
		}
		d.fail(event.ReasonName, "u", []byte(e.Unit), want)
	}
	e.Unit = unit
}

// attrs reads the attributes of an event.
func (d *Decoder) attrs() []event.Attr {
	if !d.object("a") {
		return nil
	}
	s, m := &d.s, &d.m
	from := m.Begin()
	var nulls uint64 // bit i: attribute i of this event is null
	for key, ok := s.member(true); ok; key, ok = s.member(false) {
		n := len(m.Open(from))
		if n == event.MaxAttrs {
			d.fail(event.ReasonCount, "a", key, fmt.Sprintf("at most %d attributes", event.MaxAttrs))
		}
		if d.bad || !d.fits("a", key, nameLength) {
			s.skip()
			continue
		}
		a := event.Attr{Key: m.Known(key)}
		d.sub = a.Key
		for i := range n {
			if m.Open(from)[i].Key == a.Key {
				d.twice("a")
			}
		}
		switch c := s.peek(); c {
		case '"':
			// Short texts are mostly words (good, GET, 4g), long ones ids.
			const word = 16
			if b, ok := d.text("a", textLength); !ok {
			} else if len(b) <= word {
				a.Text = m.Known(b)
			} else {
				a.Text = m.Own(b)
			}
		case 't', 'f', 'n':
			start := s.pos
			s.skip()
			if c == 'n' {
				nulls |= 1 << n
			} else if s.fault == nil {
				a.Text = m.Known(s.data[start:s.pos])
			}
		case '{', '[':
			d.wrongType("a", wantAttr)
		default:
			a.Num = true
			a.Number, _ = d.number("a")
		}
		d.sub = ""
		from = m.Add(from, a)
	}
	if d.bad || s.fault != nil {
		m.Drop(from)
		return nil
	}
	return m.Keep(from, nulls)
}
