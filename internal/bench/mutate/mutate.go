// Package mutate makes hostile bodies of good ones: what a broken client, a
// broken network or an attacker sends.
package mutate

import (
	"bytes"
	"compress/gzip"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// Kind is how a body was changed.
type Kind int

// The kinds.
const (
	Flip      Kind = iota // bits
	Truncate              // the end is missing
	Delete                // a part is missing
	Duplicate             // a part is there twice, or thousands of times
	Splice                // the beginning of one body, the end of another
	Number                // a number is one that cannot be, or that few expect
	Text                  // a text is long, no UTF-8, or an escape
	Swap                  // two tokens have changed their places
	Nest                  // values in values, deep
	Bomb                  // gzip that inflates many times
	Kinds                 // how many kinds there are
)

var names = [Kinds]string{"flip", "truncate", "delete", "duplicate", "splice", "number", "text", "swap", "nest", "bomb"}

// String returns the kind's name.
func (k Kind) String() string { return names[k] }

// Mutator makes hostile bodies, the same for the same seed. It is not safe for
// concurrent use. Bodies that it returns are valid until the next call.
type Mutator struct {
	rng *rand.Rand
	buf []byte
}

// New returns a mutator.
func New(seed, stream uint64) *Mutator {
	return &Mutator{rng: rand.New(rand.NewPCG(seed, stream))}
}

// bombs inflate to what is far over the edge's limit, or to what nests.
var bombs = sync.OnceValue(func() (all [][]byte) {
	for _, b := range []struct {
		unit  string
		bytes int
	}{{"\x00", 16 << 20}, {"[", 8 << 20}, {`{"a":`, 4 << 20}, {" ", 2 << 20}} {
		all = append(all, pack(bytes.Repeat([]byte(b.unit), b.bytes/len(b.unit))))
	}
	return all
})

func pack(text []byte) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed) // the level is good
	_, _ = w.Write(text)                              // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// maxBody is how long a mutated body gets: over the edge's own limit of 1 MiB,
// so that the limit is met too, and rarely, since such bodies take long.
const maxBody = 1<<20 + 4096

// Mutate changes body, or makes one of its own for a bomb. other is spliced
// in. gzipped says that the result must be sent as gzip. Every second body is
// changed twice.
func (m *Mutator) Mutate(body, other []byte) (out []byte, kind Kind, gzipped bool) {
	kind = Kind(m.rng.IntN(int(Kinds)))
	if kind == Bomb && m.rng.IntN(50) > 0 {
		kind = Flip // one bomb costs as much as a hundred others
	}
	if kind == Bomb {
		return m.bomb(body), kind, true
	}
	m.buf = append(m.buf[:0], body...)
	m.apply(kind, other)
	if m.rng.IntN(2) == 0 {
		m.apply(Kind(m.rng.IntN(int(Bomb))), other)
	}
	if len(m.buf) > maxBody {
		m.buf = m.buf[:maxBody]
	}
	return m.buf, kind, false
}

// bomb is one of the ready ones, or the body followed by a bomb as a second
// member, or a body whose gzip is broken.
func (m *Mutator) bomb(body []byte) []byte {
	all := bombs()
	b := all[m.rng.IntN(len(all))]
	switch m.rng.IntN(3) {
	case 0:
		return b
	case 1:
		return append(pack(body), b...)
	}
	packed := pack(body)
	packed[m.rng.IntN(len(packed))] ^= 1 << m.rng.IntN(8)
	return packed
}

func (m *Mutator) apply(k Kind, other []byte) {
	if len(m.buf) == 0 {
		m.buf = append(m.buf, '{')
	}
	switch k {
	case Flip:
		for range 1 + m.rng.IntN(8) {
			m.buf[m.rng.IntN(len(m.buf))] ^= 1 << m.rng.IntN(8)
		}
	case Truncate:
		m.buf = m.buf[:m.rng.IntN(len(m.buf))]
	case Delete:
		lo, hi := m.part(len(m.buf))
		m.buf = slices.Delete(m.buf, lo, hi)
	case Duplicate:
		lo, hi := m.part(len(m.buf))
		part := bytes.Clone(m.buf[lo:hi])
		times := 1
		if m.rng.IntN(200) == 0 && len(part) > 0 {
			times = min(1+m.rng.IntN(5000), maxBody/len(part))
		}
		m.buf = slices.Insert(m.buf, hi, bytes.Repeat(part, times)...)
	case Splice:
		if len(other) > 0 {
			m.buf = append(m.buf[:m.rng.IntN(len(m.buf))], other[m.rng.IntN(len(other)):]...)
		}
	case Number:
		m.replace(numbers(m.buf), numberTexts[m.rng.IntN(len(numberTexts))])
	case Text:
		m.replace(texts(m.buf), m.text())
	case Swap:
		m.swap()
	case Nest:
		m.nest()
	}
}

// part is a place and a length, mostly short.
func (m *Mutator) part(n int) (lo, hi int) {
	lo = m.rng.IntN(n)
	length := 1 + m.rng.IntN(64)
	if m.rng.IntN(4) == 0 {
		length = 1 + m.rng.IntN(n)
	}
	return lo, min(lo+length, n)
}

var numberTexts = []string{"-1", "-0", "0", "1e309", "-1e309", "1e-400", "99999999999999999999999999", "9223372036854775807", "9223372036854775808", "4294967296",
	"0.1", "1.7976931348623157e308", "00", "01", "1.", ".5", "+1", "0x10", "NaN", "Infinity", "null", "true", `"1"`, "[]", "{}", "1764000000000", "-62135596800000", "1e15", "1.0000000000000000000000000000000000000001"}

func (m *Mutator) text() string {
	switch m.rng.IntN(9) {
	case 0:
		return `""`
	case 1:
		return `"` + strings.Repeat("x", 1<<m.rng.IntN(15)) + `"`
	case 2:
		return "\"\xff\xfe\xed\xa0\x80\""
	case 3:
		return `"\ud800"`
	case 4:
		return `"` + strings.Repeat(`\u0000`, 1+m.rng.IntN(300)) + `"`
	case 5:
		return "null"
	case 6:
		return `"__proto__"`
	case 7:
		return `"` + strings.Repeat("\\", 1+m.rng.IntN(40)) + `"`
	}
	return `"` + strings.Repeat("é", 1<<m.rng.IntN(13)) + `"`
}

// span is a token's place.
type span struct{ lo, hi int }

// texts finds up to 4,096 texts in JSON, quotes included, and whatever looks
// like one elsewhere.
func texts(b []byte) (out []span) {
	for i := 0; i < len(b) && len(out) < 4096; i++ {
		if b[i] != '"' {
			continue
		}
		for j := i + 1; j < len(b); j++ {
			if b[j] == '\\' {
				j++
			} else if b[j] == '"' {
				out = append(out, span{i, j + 1})
				i = j
				break
			}
		}
	}
	return out
}

// numbers finds up to 4,096 runs of digits.
func numbers(b []byte) (out []span) {
	digit := func(c byte) bool { return c >= '0' && c <= '9' || c == '.' || c == '-' }
	for i := 0; i < len(b) && len(out) < 4096; i++ {
		if !digit(b[i]) {
			continue
		}
		j := i + 1
		for j < len(b) && digit(b[j]) {
			j++
		}
		out = append(out, span{i, j})
		i = j
	}
	return out
}

func (m *Mutator) replace(tokens []span, text string) {
	if len(tokens) == 0 {
		m.apply(Flip, nil)
		return
	}
	s := tokens[m.rng.IntN(len(tokens))]
	m.buf = slices.Replace(m.buf, s.lo, s.hi, []byte(text)...)
}

func (m *Mutator) swap() {
	tokens := append(numbers(m.buf), texts(m.buf)...)
	if len(tokens) < 2 {
		m.apply(Flip, nil)
		return
	}
	a, b := tokens[m.rng.IntN(len(tokens))], tokens[m.rng.IntN(len(tokens))]
	if a.lo > b.lo {
		a, b = b, a
	}
	if a.hi > b.lo {
		return // one within the other, or the same
	}
	first, second := bytes.Clone(m.buf[a.lo:a.hi]), bytes.Clone(m.buf[b.lo:b.hi])
	m.buf = slices.Replace(m.buf, b.lo, b.hi, first...)
	m.buf = slices.Replace(m.buf, a.lo, a.hi, second...)
}

// nest puts values in values in place of a token; where there is none, as in
// protobuf, it appends a log record whose attribute is a list of lists.
func (m *Mutator) nest() {
	depth := 1 << (3 + m.rng.IntN(6)) // 8 to 256
	if m.rng.IntN(64) == 0 {
		depth = 1 << (9 + m.rng.IntN(8)) // up to 65,536: rare, since such bodies take long
	}
	if tokens := texts(m.buf); len(m.buf) > 0 && (m.buf[0] == '{' || m.buf[0] == '[') && len(tokens) > 0 {
		open, shut := "[", "]"
		if m.rng.IntN(2) == 0 {
			open, shut = `{"a":`, "}"
		}
		text := strings.Repeat(open, depth)
		if m.rng.IntN(2) == 0 {
			text += "1" + strings.Repeat(shut, depth)
		}
		m.replace(tokens, text)
		return
	}
	field := func(num protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), value)
	}
	value := field(1, []byte("x")) // AnyValue.string_value
	for range min(depth, 2048) {   // each level copies the ones within
		value = field(5, field(1, value)) // AnyValue.array_value, ArrayValue.values
	}
	record := field(6, append(field(1, []byte("k")), field(2, value)...))
	m.buf = append(m.buf, field(1, field(2, field(2, record)))...)
}
