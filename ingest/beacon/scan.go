package beacon

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"serin.dev/serin/internal/event"
)

// scanner walks JSON. Each method reads one thing and leaves pos behind it; the
// first fault stays in fault and everything after it is void, so a caller looks
// at fault where it would loop or believe, and not after each call.
type scanner struct {
	data  []byte
	pos   int
	depth int
	fault *Error
	buf   []byte // the last text that had escapes
	key   []byte // the last key that had escapes
}

// broken says that the bytes at pos are not JSON.
func (s *scanner) broken(want string) {
	if s.fault != nil {
		return
	}
	at := s.data[min(s.pos, len(s.data)):]
	s.fault = &Error{Reason: event.ReasonJSON, Field: "body", Value: shown(at[:min(len(at), 16)]),
		Want: want + " at byte " + strconv.Itoa(s.pos)}
}

// peek skips white space and returns the next byte, 0 at the end: no JSON text
// has a 0 outside of a string, where it must be escaped.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		if c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c
		}
		s.pos++
	}
	return 0
}

// enter goes into the object or array at pos.
func (s *scanner) enter() {
	s.pos++
	s.depth++
	if s.depth > event.MaxDepth && s.fault == nil {
		s.fault = &Error{Reason: event.ReasonDepth, Field: "body", Value: shown(s.data[s.pos-1 : min(len(s.data), s.pos+15)]),
			Want: fmt.Sprintf("at most %d values within one another", event.MaxDepth)}
	}
}

// member goes to the next member of the object that was entered, and returns
// its key; pos then is at the value. It returns false behind the last one, and
// at a fault. The key holds until the next member is read.
func (s *scanner) member(first bool) (key []byte, ok bool) {
	if s.fault != nil {
		return nil, false
	}
	if key := s.shortKey(first); key != nil {
		return key, true
	}
	c := s.peek()
	if c == '}' {
		s.pos++
		s.depth--
		return nil, false
	}
	if !first {
		if c != ',' {
			s.broken("',' or '}'")
			return nil, false
		}
		s.pos++
		c = s.peek()
	}
	if c != '"' {
		s.broken("a key in quotes")
		return nil, false
	}
	key, escaped := s.str()
	if escaped {
		// One byte over the limit is enough to tell that a key is too long,
		// and it is then no known key either.
		s.key = unescape(s.key[:0], key, event.MaxName)
		key = s.key
	}
	if s.fault != nil {
		return nil, false
	}
	if s.peek() != ':' {
		s.broken("':'")
		return nil, false
	}
	s.pos++
	s.peek()
	return key, true
}

// shortKey is member for a key of at most seven plain characters that is written
// without white space, as nearly all are; nil for any other.
func (s *scanner) shortKey(first bool) []byte {
	d, p := s.data, s.pos
	if !first {
		if p >= len(d) || d[p] != ',' {
			return nil
		}
		p++
	}
	const quoted = 1 + 8 // the quote, and what is looked at together
	if p+quoted+2 > len(d) || d[p] != '"' {
		return nil
	}
	p++
	end := oddAt(binary.LittleEndian.Uint64(d[p:]))
	if end == 8 || end == 0 || d[p+end] != '"' {
		return nil
	}
	value := p + end + 2
	if d[value-1] != ':' || value >= len(d) || d[value] <= ' ' {
		return nil
	}
	s.pos = value
	return d[p : p+end]
}

// oddAt returns the place of the first of eight bytes that is a quote, a
// backslash, a control character or no ASCII, 8 where none is. The lowest flag
// of each of the tests is exact, and only the lowest is used.
func oddAt(w uint64) int {
	quote := w ^ ones*'"'
	slash := w ^ ones*'\\'
	return bits.TrailingZeros64((w|(w-ones*' ')|(quote-ones)|(slash-ones))&highs) / 8
}

// element goes to the next element of the array that was entered. It returns
// false behind the last one, and at a fault.
func (s *scanner) element(first bool) bool {
	if s.fault != nil {
		return false
	}
	c := s.peek()
	if c == ']' {
		s.pos++
		s.depth--
		return false
	}
	if !first {
		if c != ',' {
			s.broken("',' or ']'")
			return false
		}
		s.pos++
		s.peek()
	}
	return true
}

// skip reads a value that nobody needs, and checks it as if somebody did.
func (s *scanner) skip() {
	switch c := s.peek(); {
	case c == '"':
		s.str()
	case c == '{':
		s.enter()
		for _, ok := s.member(true); ok; _, ok = s.member(false) {
			s.skip()
		}
	case c == '[':
		s.enter()
		for ok := s.element(true); ok; ok = s.element(false) {
			s.skip()
		}
	case c == '-' || '0' <= c && c <= '9':
		s.number()
	case c == 't':
		s.literal("true")
	case c == 'f':
		s.literal("false")
	case c == 'n':
		s.literal("null")
	default:
		s.broken("a value")
	}
}

func (s *scanner) literal(word string) {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		s.broken(word)
		return
	}
	s.pos += len(word)
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// str reads the string at pos, checks its escapes and its UTF-8, and returns
// what is between the quotes. Eight bytes are looked at together.
func (s *scanner) str() (raw []byte, escaped bool) {
	s.pos++
	start := s.pos
	for {
		for s.pos+8 <= len(s.data) {
			n := oddAt(binary.LittleEndian.Uint64(s.data[s.pos:]))
			s.pos += n
			if n < 8 {
				break
			}
		}
		if s.pos >= len(s.data) {
			s.broken("the end of a string")
			return nil, false
		}
		switch c := s.data[s.pos]; {
		case c == '"':
			raw = s.data[start:s.pos]
			s.pos++
			return raw, escaped
		case c == '\\':
			escaped = true
			if !s.escape() {
				return nil, false
			}
		case c < ' ':
			s.broken("no control character in a string")
			return nil, false
		case c < utf8.RuneSelf:
			s.pos++
		default:
			_, n := utf8.DecodeRune(s.data[s.pos:])
			if n == 1 {
				s.broken("UTF-8")
				return nil, false
			}
			s.pos += n
		}
	}
}

// escape checks the escape at pos. A surrogate that is not half of a pair is
// no character, and would be lost in UTF-8.
func (s *scanner) escape() bool {
	rest := s.data[s.pos:]
	if len(rest) >= 2 {
		switch rest[1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			s.pos += 2
			return true
		case 'u':
			_, n, lone := escapedRune(rest)
			if lone {
				s.broken("a pair of surrogates")
				return false
			}
			if n > 0 {
				s.pos += n
				return true
			}
		}
	}
	s.broken("an escape of JSON")
	return false
}

// escapedRune reads the \uXXXX, or the pair of them, that b begins with. It
// returns how many bytes that is, 0 if it is none, and whether it is a
// surrogate without its other half.
func escapedRune(b []byte) (r rune, n int, lone bool) {
	r = hex4(b)
	if r < 0 {
		return 0, 0, false
	}
	if !utf16.IsSurrogate(r) {
		return r, 6, false
	}
	// A low half that is missing is -1, which makes no pair either.
	r = utf16.DecodeRune(r, hex4(b[6:]))
	return r, 12, r == utf8.RuneError
}

// hex4 reads the \uXXXX that b begins with, -1 if it does not.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// unescape appends the text of a string that str has checked to dst. It stops
// once dst is longer than limit: the caller refuses such a text, whatever the
// rest of it says.
func unescape(dst, raw []byte, limit int) []byte {
	for i := 0; i < len(raw) && len(dst) <= limit; {
		c := raw[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		switch c = raw[i+1]; c {
		case 'u':
			r, n, _ := escapedRune(raw[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		}
		dst = append(dst, c)
		i += 2
	}
	return dst
}

// number reads the number at pos by the grammar of JSON and returns its text,
// and whether it is written as an integer.
func (s *scanner) number() (raw []byte, integer bool) {
	start := s.pos
	if s.data[s.pos] == '-' {
		s.pos++
	}
	lead := s.pos
	if s.digits() == 0 || s.data[lead] == '0' && s.pos > lead+1 {
		s.pos = start
		s.broken("a number")
		return nil, false
	}
	integer = true
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		integer = false
		s.pos++
		if s.digits() == 0 {
			s.broken("a digit after the point")
			return nil, false
		}
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		integer = false
		s.pos++
		if s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		if s.digits() == 0 {
			s.broken("a digit of the exponent")
			return nil, false
		}
	}
	return s.data[start:s.pos], integer
}

// shortNumber reads a number of at most 15 digits without an exponent, with
// what ends it behind it, as nearly all are: its digits as an integer, and how
// many of them stand behind the point. ok is false for any other, and then
// nothing is read.
func (s *scanner) shortNumber() (mantissa int64, behind int, ok bool) {
	d, start := s.data, s.pos
	p := start
	if p < len(d) && d[p] == '-' {
		p++
	}
	lead, point := p, -1
	for ; p < len(d); p++ {
		c := d[p]
		if c-'0' <= 9 {
			mantissa = mantissa*10 + int64(c-'0')
			if p-start > len(pow10) {
				return 0, 0, false
			}
			continue
		}
		if c != '.' || point >= 0 || p == lead {
			break
		}
		point = p
	}
	whole := p - lead
	if point >= 0 {
		whole = point - lead
		behind = p - point - 1
		if behind == 0 {
			return 0, 0, false
		}
	}
	if whole == 0 || d[lead] == '0' && whole > 1 || whole+behind >= len(pow10) || p >= len(d) || d[p] != ',' && d[p] != '}' && d[p] != ']' {
		return 0, 0, false
	}
	if lead > start {
		if mantissa == 0 {
			return 0, 0, false // a zero with a sign is for those who know it
		}
		mantissa = -mantissa
	}
	s.pos = p
	return mantissa, behind, true
}

// digits moves over digits and returns how many there were.
func (s *scanner) digits() int {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos - start
}

var pow10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// float returns the float64 nearest to a number that [scanner.number] read,
// and an infinity for one that is too large. A mantissa of at most 15 digits
// and a power of ten up to 10^15 are both exact in a float64, so one division
// rounds once and correctly (Clinger, 1990). That is nearly all that clients
// send; strconv does the others.
func float(raw []byte) float64 {
	var mantissa uint64
	digits, point := 0, -1
	for i, c := range raw {
		switch {
		case c-'0' <= 9:
			mantissa = mantissa*10 + uint64(c-'0')
			digits++
		case c == '.':
			point = i
		case c == '-': // the sign in front; that of an exponent comes too late
		default:
			digits = len(pow10)
		}
		if digits >= len(pow10) {
			f, err := strconv.ParseFloat(string(raw), 64)
			if err != nil && !math.IsInf(f, 0) {
				panic("BUG: the scanner read a number that strconv does not know: " + string(raw))
			}
			return f
		}
	}
	f := float64(mantissa)
	if point >= 0 {
		f /= pow10[len(raw)-1-point]
	}
	if raw[0] == '-' {
		f = -f
	}
	return f
}
