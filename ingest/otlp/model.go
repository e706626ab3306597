// Package otlp reads OpenTelemetry's OTLP/HTTP bodies, protobuf and JSON, of
// traces, logs and metrics, by the semantic conventions for browsers, mobile
// apps, sessions, exceptions, crashes and web vitals. This is how Android, iOS,
// Flutter and React Native apps on OpenTelemetry come in. docs/formats/otlp.md
// says what becomes of each signal.
//
// Both encodings are read into the same small model, a record at a time, which
// holds only what becomes part of an event.
package otlp

import (
	"bytes"
	"encoding/hex"
	"math"
	"strconv"
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

// get returns the value of the first of the keys that is there.
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
	told     bool
	attrs    attrs
	events   []record
	value    float64 // of a point
	count    float64 // of a histogram's point; 0 for plain numbers
	hasValue bool
}

// thrown reports whether the record tells of an exception, whatever it is called.
func (r *record) thrown() bool {
	return r.attrs.has("exception.type") || r.attrs.has("exception.message")
}

// traceID returns the id of the record's trace, in hexadecimal; empty for the id
// of zeros, by which some exporters say that there is none.
func (r *record) traceID() string {
	if len(bytes.Trim(r.trace, "0\x00")) == 0 {
		return ""
	}
	if r.hex {
		return string(r.trace)
	}
	return hex.EncodeToString(r.trace)
}

// reset empties a record and keeps its memory.
func (r *record) reset() {
	*r = record{attrs: r.attrs[:0], events: r.events[:0]}
}

// event returns one more event of a span, to be read into.
func (r *record) event() *record {
	if n := len(r.events); n < cap(r.events) {
		r.events = r.events[:n+1]
		r.events[n].reset()
	} else {
		r.events = append(r.events, record{})
	}
	return &r.events[len(r.events)-1]
}
