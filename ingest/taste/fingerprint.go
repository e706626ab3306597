package taste

import (
	"encoding/binary"
	"hash/fnv"
)

// structured is how much of a body its fingerprint is made of, in bytes.
const structured = 16 << 10

// Fingerprint names the form of a body: its protocol, its key, and its
// structure with values masked, so that a poison does not get a new name by
// another number in it. Of text bodies the structure is the punctuation of JSON
// with runs of other bytes as one; of others the classes of the bytes. Long
// bodies are told apart by the power of two of their length.
func Fingerprint(protocol, key string, body []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(protocol)) // a hash takes whatever it is given
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(key))
	_, _ = h.Write([]byte{0})
	size := 0
	for n := len(body); n > 0; n >>= 1 {
		size++
	}
	var mask []byte
	last := byte(0)
	inText, escaped := false, false
	for _, c := range body[:min(len(body), structured)] {
		class := byte('v')
		switch {
		case inText:
			switch {
			case escaped:
				escaped = false
			case c == '\\':
				escaped = true
			case c == '"':
				inText = false
			}
			class = 's'
		case c == '"':
			inText, class = true, 's'
		case c == '{', c == '}', c == '[', c == ']', c == ':', c == ',', c == '\n':
			class = c
		case c == ' ', c == '\t', c == '\r':
			continue
		case c >= 0x80:
			class = 'b'
		case c < ' ':
			class = 'c'
		}
		// Runs of one class are one, but for what nests.
		if class == last && class != '{' && class != '[' && class != '}' && class != ']' {
			continue
		}
		mask = append(mask, class)
		last = class
	}
	_, _ = h.Write(mask)
	if len(body) > structured {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(size)))
	}
	return h.Sum64()
}
