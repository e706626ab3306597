package dialect

import (
	"serin.dev/serin/ingest/intern"
	"serin.dev/serin/internal/event"
)

// Memory is where beacons are decoded into. Texts that were given out stay; the
// beacons themselves and their lists of events and attributes are of the last body
// only, and are written again with the next. The zero Memory is ready. It is not
// safe for concurrent use.
type Memory struct {
	intern.Memory
	beacons []event.Beacon
	events  [][]event.One  // lists that may be used again
	sources []Source       // of the beacons
	index   map[Source]int // the newest beacon of each source, where there are more than fewSources
	text    []byte         // of a beacon, to be hashed
	scratch []byte         // of a text that is put together
}

// maxSpare is how many lists of events, and maxSpareBeacons how many beacons, a
// memory keeps for the next body: bodies of one session are the rule.
const (
	maxSpare        = 4
	maxSpareBeacons = 16
)

// memory returns where to decode into.
func (r *Request) memory() *Memory {
	if r.Memory == nil {
		r.Memory = new(Memory)
	}
	return r.Memory
}

// Words returns where a decoder keeps its texts and attributes.
func (r *Request) Words() *intern.Memory { return &r.memory().Memory }

// Join returns a text of several that repeats from body to body, in one copy.
func (r *Request) Join(parts ...string) string {
	m := r.memory()
	m.scratch = m.scratch[:0]
	for _, p := range parts {
		m.scratch = append(m.scratch, p...)
	}
	return m.Known(m.scratch)
}

// List returns a list of attributes that is in the request's memory.
func (r *Request) List(attrs ...event.Attr) []event.Attr {
	m := r.memory()
	from := m.Begin()
	for i := range attrs {
		from = m.Add(from, attrs[i])
	}
	return m.Keep(from, 0)
}

// begin takes back what was lent to the body before.
func (m *Memory) begin() {
	m.Reuse()
	for i := range m.beacons {
		if list := m.beacons[i].Events; len(m.events) < maxSpare && cap(list) > 0 {
			clear(list) // its texts may be long
			m.events = append(m.events, list[:0])
		}
	}
	if cap(m.scratch) > event.MaxSDKBody { // one large body is no reason to keep as much
		m.scratch = nil
	}
	if cap(m.text) > event.MaxSDKBody {
		m.text = nil
	}
	if cap(m.beacons) > maxSpareBeacons {
		m.beacons = nil
	}
	m.beacons = m.beacons[:0]
	if cap(m.sources) > maxSpareBeacons {
		m.sources, m.index = nil, nil
	}
	m.sources = m.sources[:0]
	clear(m.index)
}

// fewSources is how many sources of a body are told by looking at each: to hash
// their fifteen texts costs more.
const fewSources = 8

// find returns the newest beacon of a source.
func (m *Memory) find(s *Source) (at int, ok bool) {
	if len(m.sources) > fewSources {
		at, ok = m.index[*s]
		return at, ok
	}
	for i := len(m.sources) - 1; i >= 0; i-- {
		if m.sources[i] == *s {
			return i, true
		}
	}
	return 0, false
}

// add notes the source of the next beacon.
func (m *Memory) add(s *Source) {
	m.sources = append(m.sources, *s)
	switch n := len(m.sources); {
	case n == fewSources+1:
		if m.index == nil {
			m.index = make(map[Source]int, 2*n)
		}
		for i := range m.sources {
			m.index[m.sources[i]] = i
		}
	case n > fewSources:
		m.index[*s] = n - 1
	}
}

// list returns an empty list of events.
func (m *Memory) list() []event.One {
	if n := len(m.events); n > 0 {
		list := m.events[n-1]
		m.events = m.events[:n-1]
		return list
	}
	return make([]event.One, 0, roomFor)
}
