// Package intern is where decoders keep the texts and attributes that they give
// out: what repeats from body to body is one copy, so that whatever is behind a
// decoder can tell it by where it is in memory, and what does not shares
// allocations.
package intern

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
	attrChunk = 64   // attributes that share an allocation, at first
	maxAttrs  = 2048 // of which room is kept from body to body

	nearSize = 256
)

// Memory is where decoded texts and attributes live. A text that it gave out is never
// written again, so that it may outlive the body, and keeps alive at most a chunk more
// than it says; lists of attributes live until [Memory.Reuse]. The zero Memory is ready.
// It is not safe for concurrent use.
type Memory struct {
	table map[string]string
	near  [nearSize]string // by a weak hash; each a text that was given out
	bytes int
	chunk strings.Builder
	attrs []event.Attr // the rest of a chunk of attributes: its length is what is given out
}

// Known returns b as a string and allocates only if b is new. It is for what
// repeats from beacon to beacon: names, context, keys.
func (m *Memory) Known(b []byte) string {
	if len(b) == 0 || len(b) > maxInternedText {
		return m.Own(b)
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

func (m *Memory) find(b []byte) string {
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

// Own returns b as a string. It is for what does not repeat: sessions,
// messages, ids. Small ones share an allocation.
func (m *Memory) Own(b []byte) string {
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

// Reuse takes back the attributes that were given out: they are written again. A body's
// are in the store's rows before the next one is read, and were an eighth of the garbage.
func (m *Memory) Reuse() {
	if cap(m.attrs) > maxAttrs {
		m.attrs = nil
	}
	m.attrs = m.attrs[:0]
}

// Begin returns where a list of attributes begins that is open from now on.
func (m *Memory) Begin() int { return len(m.attrs) }

// Open returns the attributes of the list that begins at from. They may move
// with the next one that is added.
func (m *Memory) Open(from int) []event.Attr { return m.attrs[from:] }

// Add adds an attribute to the open list, which begins at from, and returns where
// that begins now.
func (m *Memory) Add(from int, a event.Attr) int {
	if len(m.attrs) == cap(m.attrs) {
		open := m.attrs[from:]
		m.attrs = append(make([]event.Attr, 0, max(attrChunk, 2*len(open), min(2*cap(m.attrs), maxAttrs))), open...)
		from = 0
	}
	m.attrs = append(m.attrs, a)
	return from
}

// Drop forgets the open list, which begins at from.
func (m *Memory) Drop(from int) { m.attrs = m.attrs[:from] }

// Keep closes the open list, which begins at from, and gives it out without those
// whose bit is set in nulls; nil where none is left. A list has at most 64.
func (m *Memory) Keep(from int, nulls uint64) []event.Attr {
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
