package ingest

import (
	"bytes"
	"sync"

	"serin.dev/serin/internal/tenant"
)

// The bounds of what is remembered of native bodies.
const (
	trials      = 3       // bodies of a kind that are tasted before it is decoded in this process
	maxFamiliar = 1 << 14 // kinds
	maxLook     = 512     // bytes of a body in which its SDK and release are looked for
	maxKind     = 160     // bytes of either
)

// familiar knows which kinds of native bodies have been decoded before: a kind
// is a key, an SDK with its version, and a release. A client may make up as
// many as it likes: then the set is emptied, and its bodies, like those of
// others for a moment, are tasted again, which costs time and nothing else.
type familiar struct {
	mu   sync.RWMutex
	seen map[string]uint8
}

// familiarKey appends the kind of a body to b: the texts of the first sdk and
// release that stand in it, as they are written there. A body that hides them
// shares the kind of all that do.
func familiarKey(b []byte, g *tenant.Grant, body []byte) []byte {
	body = body[:min(len(body), maxLook)]
	b = append(b, g.KeyID...)
	for _, name := range [...]string{`"sdk":"`, `"release":"`} {
		b = append(b, 0)
		_, rest, ok := bytes.Cut(body, []byte(name))
		if !ok {
			continue
		}
		if end := bytes.IndexByte(rest, '"'); end >= 0 && end <= maxKind {
			b = append(b, rest[:end]...)
		}
	}
	return b
}

// strange reports whether bodies of a kind are still to be tasted.
func (f *familiar) strange(kind []byte) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.seen[string(kind)] < trials
}

// passed notes that a body of a kind was tasted and did no harm.
func (f *familiar) passed(kind []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.seen[string(kind)]
	if n >= trials {
		return
	}
	if f.seen == nil || len(f.seen) >= maxFamiliar {
		f.seen = make(map[string]uint8, 64)
	}
	f.seen[string(kind)] = n + 1
}

// forget makes a kind strange again.
func (f *familiar) forget(kind []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.seen, string(kind))
}
