package corpus

import (
	"bytes"
	"fmt"
)

// Format is how a body is written.
type Format string

// The formats.
const (
	Native     Format = "native"
	NativeGzip Format = "native-gzip"
	Stream     Format = "stream" // native bodies, as messages of a websocket
	OTLPProto  Format = "otlp-proto"
	OTLPJSON   Format = "otlp-json"
	Faro       Format = "faro"
	Sentry     Format = "sentry"
)

// Formats are all formats.
var Formats = []Format{Native, NativeGzip, Stream, OTLPProto, OTLPJSON, Faro, Sentry}

// SessionBytes is how long a session's id is in every body: as long as the ids
// of traces, which stand in for it in Sentry's.
const SessionBytes = 32

// placeholder stands in the encoded bodies where the session's id belongs.
var placeholder = []byte("5e5510a05e5510a15e5510a25e5510a3")

// Body is one encoded beacon. It is not changed once it is made: a sender
// copies Bytes and stamps the copy, so that no two beacons are the same.
type Body struct {
	Format Format
	Arm    string // of its session
	Seq    int
	Events int
	Bytes  []byte

	places []int        // offsets of the session's id
	sumAt  int          // gzip: offset of the checksum
	crc    *[256]uint32 // gzip: what one bit of the id moves the checksum by
}

// Stamp writes a session's id into dst, a copy of the body's bytes. The
// beacon's number is there already, since a session's beacons are sent in
// their order. Times are those of the corpus: the edge corrects a clock that
// is off.
func (b *Body) Stamp(dst []byte, id *[SessionBytes]byte) {
	for _, at := range b.places {
		copy(dst[at:], id[:])
	}
	if b.crc == nil {
		return
	}
	// A checksum is linear over the bits: what the id's bits change is known
	// for each bit, and the rest of the body is the same.
	at := b.sumAt
	sum := uint32(dst[at]) | uint32(dst[at+1])<<8 | uint32(dst[at+2])<<16 | uint32(dst[at+3])<<24
	for i, c := range id {
		for diff, bit := c^placeholder[i], 0; diff != 0; diff, bit = diff>>1, bit+1 {
			if diff&1 != 0 {
				sum ^= b.crc[i*8+bit]
			}
		}
	}
	dst[at], dst[at+1], dst[at+2], dst[at+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
}

// Head returns the head of an HTTP/1.1 request for bodies of a format, on a
// connection that is kept, up to the number of the body's bytes, which the
// sender writes, and an empty line.
func Head(f Format, host, key string) []byte {
	var b bytes.Buffer
	target, kind := "/v1/beacons?key="+key, "text/plain;charset=UTF-8"
	more := ""
	switch f {
	case NativeGzip:
		more = "Content-Encoding: gzip\r\n"
	case OTLPProto:
		target, kind, more = "/v1/logs", "application/x-protobuf", "X-Api-Key: "+key+"\r\n"
	case OTLPJSON:
		target, kind, more = "/v1/logs", "application/json", "X-Api-Key: "+key+"\r\n"
	case Faro:
		target, kind, more = "/faro/collect", "application/json", "X-Api-Key: "+key+"\r\n"
	case Sentry:
		target = "/api/1/envelope/?sentry_version=7&sentry_key=" + key + "&sentry_client=sentry.javascript.browser%2F10.78.0"
	}
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n%sContent-Length: ", target, host, kind, more)
	return b.Bytes()
}

// Encode writes every beacon of a corpus in a format: the sessions in their
// order, each session's bodies in theirs.
func Encode(f Format, sessions []Session) ([][]Body, error) {
	out := make([][]Body, len(sessions))
	for i := range sessions {
		for j := range sessions[i].Beacons {
			b, err := encode(f, &sessions[i].Beacons[j])
			if err != nil {
				return nil, fmt.Errorf("encode beacon %d of session %d as %s: %w", j, i, f, err)
			}
			out[i] = append(out[i], b)
		}
	}
	return out, nil
}

func encode(f Format, b *Beacon) (Body, error) {
	out := Body{Format: f, Arm: b.Arm, Seq: b.Seq, Events: len(b.Events)}
	var err error
	switch f {
	case Native, NativeGzip, Stream:
		out.Bytes, err = native(b)
	case OTLPProto:
		out.Bytes = otlpProto(b)
	case OTLPJSON:
		out.Bytes, err = otlpJSON(b)
	case Faro:
		out.Bytes, err = faro(b)
	case Sentry:
		out.Bytes, err = sentry(b)
	default:
		return out, fmt.Errorf("format %q: want one of %v", f, Formats)
	}
	if err != nil {
		return out, err
	}
	if f == NativeGzip {
		err := pack(&out)
		return out, err
	}
	out.places = find(out.Bytes)
	if len(out.places) == 0 {
		return out, fmt.Errorf("a body without its session")
	}
	return out, nil
}

func find(text []byte) (places []int) {
	for from := 0; ; {
		i := bytes.Index(text[from:], placeholder)
		if i < 0 {
			return places
		}
		places = append(places, from+i)
		from += i + SessionBytes
	}
}
