package batch

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow/array"

	"serin.dev/serin/internal/event"
)

// dict is a dictionary column.
type dict struct {
	codes  []uint32
	values []string
	index  map[string]uint32
	last   string // most columns repeat the row before: one compare instead of a map look-up
	code   uint32
	near   []nearCode // made when the column has had some misses
	misses int
}

// nearCode is the code of a text, told by where it is in memory: what reads the
// journal gives out one copy of what repeats. It holds the text, so that nothing
// else can come to stand there.
type nearCode struct {
	text string
	code uint32
}

const (
	nearCodes  = 1 << 7
	nearMisses = 64 // before there are any: most batches of many partitions are small
)

// nearAt returns the one place for a text in a table of a power of two of
// places, by Fibonacci hashing of where the text is.
func nearAt(s string, places uint64) uint64 {
	p := uint64(uintptr(unsafe.Pointer(unsafe.StringData(s))))
	return p * 0x9e3779b97f4a7c15 >> 32 & (places - 1)
}

// same reports whether two texts are one copy.
func same(a, b string) bool {
	return len(a) == len(b) && unsafe.StringData(a) == unsafe.StringData(b)
}

// reset empties the column and keeps its memory, and no text.
func (d *dict) reset() {
	clear(d.values)
	clear(d.index)
	clear(d.near)
	d.codes, d.values, d.last, d.code = d.codes[:0], d.values[:0], "", 0
}

func (d *dict) append(s string) { d.codes = append(d.codes, d.of(s)) }

// of returns the code of a text, which is copied where it is new: s may be in
// memory that the caller reuses.
func (d *dict) of(s string) uint32 {
	if len(d.values) > 0 && s == d.last {
		return d.code
	}
	if d.near == nil {
		if d.misses++; d.misses < nearMisses {
			return d.find(s)
		}
		d.near = make([]nearCode, nearCodes)
	}
	e := &d.near[nearAt(s, nearCodes)]
	if !same(e.text, s) || s == "" { // the empty text is nowhere
		*e = nearCode{s, d.find(s)}
	}
	d.last, d.code = d.values[e.code], e.code
	return e.code
}

func (d *dict) find(s string) uint32 {
	code, ok := d.index[s]
	if !ok {
		code = uint32(len(d.values))
		s = strings.Clone(s)
		d.index[s] = code
		d.values = append(d.values, s)
	}
	d.last, d.code = d.values[code], code
	return code
}

// ofBytes is of for a text that is still bytes.
func (d *dict) ofBytes(b []byte) uint32 {
	if len(d.values) > 0 && string(b) == d.last {
		return d.code
	}
	code, ok := d.index[string(b)]
	if !ok {
		return d.of(string(b))
	}
	d.last, d.code = d.values[code], code
	return code
}

// copyStrings appends a plain column. Only a text that is new is copied.
func (d *dict) copyStrings(a *array.String) {
	for r := range a.Len() {
		s := a.Value(r)
		if _, ok := d.index[s]; !ok {
			s = strings.Clone(s)
		}
		d.append(s)
	}
}

// copyCodes appends a dictionary column. It looks at each word once and at
// codes only from there on; a Parquet reader may give a word twice.
func (d *dict) copyCodes(a *array.Dictionary, words *array.String) error {
	const unseen = math.MaxUint32
	codes := make([]uint32, words.Len())
	for i := range codes {
		codes[i] = unseen
	}
	d.codes = slices.Grow(d.codes, a.Len())
	for r := range a.Len() {
		i := a.GetValueIndex(r)
		if i < 0 || i >= len(codes) {
			return fmt.Errorf("row %d has word %d of %d", r, i, len(codes))
		}
		if codes[i] == unseen {
			d.append(strings.Clone(words.Value(i)))
			codes[i] = d.codes[len(d.codes)-1]
			continue
		}
		d.codes = append(d.codes, codes[i])
	}
	if n := len(d.codes); n > 0 {
		d.code = d.codes[n-1]
		d.last = d.values[d.code]
	}
	return nil
}

// attrsMemo remembers the codes of short lists of attributes, each told by where
// its texts are in memory: to write one out and look it up costs more than all
// else of a row.
type attrsMemo struct {
	near   []nearAttrs
	misses int
}

// maxNearAttrs is how many attributes a list may have to be remembered.
const maxNearAttrs = 2

type nearAttrs struct {
	n     int // attributes; 0: free
	attrs [maxNearAttrs]event.Attr
	code  uint32
}

// at returns the one place where a list may be remembered, nil where there is
// none.
func (m *attrsMemo) at(attrs []event.Attr) *nearAttrs {
	if len(attrs) == 0 || len(attrs) > maxNearAttrs {
		return nil
	}
	if m.near == nil {
		if m.misses++; m.misses < nearMisses {
			return nil
		}
		m.near = make([]nearAttrs, nearCodes)
	}
	p := uint64(0)
	for i := range attrs {
		a := &attrs[i]
		p += uint64(uintptr(unsafe.Pointer(unsafe.StringData(a.Key)))) + math.Float64bits(a.Number)
		p = p*0x9e3779b97f4a7c15 + uint64(uintptr(unsafe.Pointer(unsafe.StringData(a.Text))))
	}
	return &m.near[p*0x9e3779b97f4a7c15>>32&(nearCodes-1)]
}

func (e *nearAttrs) holds(attrs []event.Attr) bool {
	if e.n != len(attrs) {
		return false
	}
	for i := range attrs {
		a, b := &attrs[i], &e.attrs[i]
		if a.Num != b.Num || math.Float64bits(a.Number) != math.Float64bits(b.Number) || !same(a.Key, b.Key) || a.Text != b.Text {
			return false
		}
	}
	return true
}

func (e *nearAttrs) note(attrs []event.Attr, code uint32) {
	if e == nil {
		return
	}
	e.n, e.code = len(attrs), code
	copy(e.attrs[:], attrs)
}
