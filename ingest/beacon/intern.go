package beacon

import (
	"strings"

	"serin.dev/serin/internal/event"
)

// The bounds of what a decoder keeps between beacons. A client cannot make it
// keep more by sending names that are all different: the table then is emptied
// more often, which costs an allocation per name and nothing else.
const (
	maxInterned      = 4096      // entries
	maxInternedBytes = 128 << 10 // bytes of all entries
	maxInternedText  = 128       // bytes of an entry

	textChunk = 4096 // bytes of text that share an allocation
	maxShared = 512  // bytes of a text that goes into a chunk
	attrChunk = 64   // attributes that share an allocation

	nearSize = 256
)

// memory is where decoded texts and attributes live. Nothing that it gave out
// is written again, so beacons may outlive the next Decode; what they keep
// alive is at most a chunk more than they say.
type memory struct {
	table map[string]string
	near  [nearSize]string // by a weak hash; each a text that was given out
	bytes int
	chunk strings.Builder
	attrs []event.Attr // the rest of a chunk of attributes: its length is what is given out
}

// intern returns b as a string and allocates only if b is new. It is for what
// repeats from beacon to beacon: names, context, keys.
func (m *memory) intern(b []byte) string {
	if len(b) == 0 || len(b) > maxInternedText {
		return m.text(b)
	}
	// Most names are the same few hundred: a glance at the one place where such
	// a name was last seen costs a third of a look-up in the table.
	at := &m.near[(uint(b[0])*7+uint(b[len(b)/2])*31+uint(b[len(b)-1])*131+uint(len(b))*17)%nearSize]
	if *at == string(b) {
		return *at
	}
	s := m.find(b)
	*at = s
	return s
}

func (m *memory) find(b []byte) string {
	if s, ok := m.table[string(b)]; ok { // the compiler makes no string of b here
		return s
	}
	if m.table == nil {
		m.table = make(map[string]string, 64)
	}
	if len(m.table) == maxInterned || m.bytes+len(b) > maxInternedBytes {
		clear(m.table)
		m.bytes = 0
	}
	s := string(b)
	m.table[s] = s
	m.bytes += len(b)
	return s
}

// text returns b as a string. It is for what does not repeat: sessions,
// messages, ids. Small ones share an allocation.
func (m *memory) text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > maxShared {
		return string(b)
	}
	if m.chunk.Cap()-m.chunk.Len() < len(b) {
		m.chunk.Reset() // leaves the old chunk to the strings that are in it
		m.chunk.Grow(textChunk)
	}
	from := m.chunk.Len()
	m.chunk.Write(b)
	return m.chunk.String()[from:]
}

// room makes room for one more attribute behind the open ones, which begin at
// from, and returns where they begin now.
func (m *memory) room(from int) int {
	if len(m.attrs) < cap(m.attrs) {
		return from
	}
	open := m.attrs[from:]
	m.attrs = append(make([]event.Attr, 0, max(attrChunk, 2*len(open))), open...)
	return 0
}

// keep closes the open attributes, which begin at from, gives them out, and
// leaves out those whose bit is set in nulls.
func (m *memory) keep(from int, nulls uint64) []event.Attr {
	open := m.attrs[from:]
	n := 0
	for i := range open {
		if nulls>>i&1 == 0 {
			open[n] = open[i]
			n++
		}
	}
	m.attrs = m.attrs[:from+n]
	if n == 0 {
		return nil
	}
	return open[:n:n]
}
