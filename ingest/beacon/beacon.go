// Package beacon reads the native wire format, JSON version 1, that
// docs/formats/beacon.md describes field by field. A body comes from a client
// that nobody trusts, so it is read by a scanner of our own that checks every
// cap before it allocates, in one pass:
//
//  1. the envelope (who sends, when, on which arms) is taken or refused as a
//     whole, with an [Error];
//  2. an event that is at fault is left out with a [Rejection], and the others
//     are kept;
//  3. bytes that are not JSON refuse the whole beacon wherever they stand,
//     since nothing after them can be trusted to mean what it says.
//
// The package looks at no clock and no key: ingest/admit does that with what is
// decoded here.
package beacon

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"serin.dev/serin/internal/event"
)

// ErrMalformed is what every error of [Decoder.Decode] is, by errors.Is.
var ErrMalformed = errors.New("malformed beacon")

// Error says why a whole beacon is refused.
type Error struct {
	Reason event.Reason
	Field  string // path, such as "ctx.page"; "body" for what is not JSON
	Value  string // what was there, at most 64 printable bytes; empty where nothing was
	Want   string // what is allowed
}

// Error names the field, the value and what is allowed.
func (e *Error) Error() string {
	if e.Reason == event.ReasonMissing {
		return fmt.Sprintf("malformed beacon: %s: missing: want %s", e.Field, e.Want)
	}
	return fmt.Sprintf("malformed beacon: %s: %q: want %s", e.Field, e.Value, e.Want)
}

// Is reports whether target is [ErrMalformed].
func (e *Error) Is(target error) bool { return target == ErrMalformed }

// Rejection says why one event was left out of a beacon that was kept.
type Rejection struct {
	Index  int // position in the client's array of events, from 0
	Reason event.Reason
	Field  string // path, such as "events[3].v"
	Value  string // what was there, at most 64 printable bytes; empty where nothing was
	Want   string // what is allowed
}

// maxShown is how many bytes of a value an answer repeats.
const maxShown = 64

// shown makes what a client sent fit for an answer and a log: printable, of
// one line, at most maxShown bytes and never half a character.
func shown(b []byte) string {
	const more = "..."
	if len(b) <= maxShown && plain(b) {
		return string(b)
	}
	var sb strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			r = '?'
		}
		if sb.Len()+utf8.RuneLen(r) > maxShown-len(more) && len(b) > len(more) {
			sb.WriteString(more)
			break
		}
		sb.WriteRune(r)
		b = b[n:]
	}
	return sb.String()
}

// plain reports whether b is printable ASCII.
func plain(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
