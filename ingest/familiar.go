package ingest

import (
	"bytes"
	"math/bits"
	"strings"
	"sync"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/tenant"
)

// The bounds of what is remembered of bodies.
const (
	trials      = 3       // bodies of a kind that are tasted before it is decoded in this process
	condemned   = 1 << 7  // in the place of a count: one of the kind did harm
	maxFamiliar = 1 << 14 // kinds
	maxLook     = 512     // bytes of a native body in which its SDK and release are looked for
	maxLookFar  = 4 << 10 // the same of bodies of other protocols, which begin with more
	maxKind     = 160     // bytes of either
)

// familiar knows which kinds of bodies have been decoded before: a kind is a
// key, an SDK with its version, and a release; of a foreign protocol also the
// rough structure of the body; of packed bodies there is one for each key and
// encoding too, since nobody can look into them before they are inflated. A
// client may make up as many as it likes: then the set is emptied, and its
// bodies, like those of others for a moment, are tasted again, which costs time
// and nothing else.
type familiar struct {
	mu   sync.RWMutex
	seen map[string]uint8
}

// familiarKey appends the kind of a native body to b: the texts of the first
// sdk and release that stand in it, as they are written there. A body that hides
// them shares the kind of all that do.
func familiarKey(b []byte, g *tenant.Grant, body []byte) []byte {
	b = append(b, g.KeyID...)
	return appendMarked(b, body[:min(len(body), maxLook)], nativeMarks)
}

// mark says where in a body a text stands that is a part of its kind.
type mark struct{ from, to string }

var nativeMarks = []mark{{`"sdk":"`, `"`}, {`"release":"`, `"`}}

// foreignMarks are where other protocols say of which SDK and release a body is.
// OTLP's are looked for in both encodings: in protobuf a text ends where the
// tag of the next attribute, or of a message, begins.
var foreignMarks = map[string][]mark{
	"faro":    {{`"sdk":{`, `}`}, {`"app":{`, `}`}},
	"sentry":  {{`"sdk":{`, `}`}, {`"release":"`, `"`}},
	"otlp":    {{`telemetry.sdk.version`, "}"}, {`service.version`, "}"}},
	"elastic": {{`"agent":{`, `}`}, {`"version":"`, `"`}},
	"datadog": {{`"version":"`, `"`}},
}

func appendMarked(b, body []byte, marks []mark) []byte {
	for _, m := range marks {
		b = append(b, 0)
		_, rest, ok := bytes.Cut(body, []byte(m.from))
		if !ok {
			continue
		}
		if len(rest) > 4 && rest[0] == 0x12 && rest[2] == 0x0a { // protobuf: the value's tag, and a text's
			rest = rest[4:]
			b = append(b, rest[:min(len(rest), int(rest[0]), maxKind)]...)
			continue
		}
		if end := bytes.Index(rest[:min(len(rest), maxKind+1)], []byte(m.to)); end >= 0 {
			b = append(b, rest[:end]...)
		}
	}
	return b
}

// packedKey appends the kind of bodies of a key that are packed.
func packedKey(b []byte, g *tenant.Grant, protocol, encoding string) []byte {
	for _, s := range [...]string{g.KeyID, protocol, encoding} {
		b = append(append(b, s...), 0)
	}
	return append(b, "packed"...)
}

// foreignKey appends the kind of a foreign body: its key, protocol, path and
// content type, the SDK where it names itself in the header or the body, the
// release, and the powers of two of its length and of the number of its
// brackets. What nests deeper or lists more than a kind did is of another one.
func foreignKey(b []byte, g *tenant.Grant, protocol string, r *dialect.Request, body []byte) []byte {
	agent := r.Header["user-agent"]
	if strings.HasPrefix(agent, "Mozilla/") {
		agent = "" // the browser's, of which there are many, and no SDK's
	}
	for _, s := range [...]string{g.KeyID, protocol, r.Target.Path, r.Header["content-type"], agent} {
		b = append(append(b, s[:min(len(s), maxKind)]...), 0)
	}
	brackets := bytes.Count(body, []byte("{")) + bytes.Count(body, []byte("["))
	b = append(b, byte(bits.Len(uint(len(body)))), byte(bits.Len(uint(brackets))))
	return appendMarked(b, body[:min(len(body), maxLookFar)], foreignMarks[protocol])
}

// strange reports whether bodies of a kind are still to be tasted.
func (f *familiar) strange(kind []byte) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.seen[string(kind)] != trials
}

// passed notes that a body of a kind was tasted and did no harm.
func (f *familiar) passed(kind []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.seen[string(kind)]
	if n >= trials {
		return
	}
	f.set(kind, n+1)
}

// condemn makes a kind strange for good, as far as that is remembered: one of
// its bodies did harm.
func (f *familiar) condemn(kind []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(kind, condemned)
}

// set notes a kind. The caller holds mu.
func (f *familiar) set(kind []byte, n uint8) {
	if f.seen == nil || len(f.seen) >= maxFamiliar {
		f.seen = make(map[string]uint8, 64)
	}
	f.seen[string(kind)] = n
}
