package corpus

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// pack compresses a body so that it can still be stamped: the session's id is
// a stored block of the deflate stream between two compressed ones (RFC 1951,
// 3.2.4), and the checksum is moved by what the id's bits change. To a reader
// it is gzip as any other.
func pack(b *Body) error {
	text := b.Bytes
	places := find(text)
	if len(places) != 1 {
		return fmt.Errorf("%d places for the session, want 1", len(places))
	}
	at := places[0]
	var out bytes.Buffer
	out.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}) // magic, deflate, no flags, no time, no OS
	part := func(text []byte, last bool) error {
		w, err := flate.NewWriter(&out, flate.DefaultCompression)
		if err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		if last {
			return w.Close()
		}
		return w.Flush() // ends on a byte, with an empty stored block
	}
	if err := part(text[:at], false); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	out.Write([]byte{0, SessionBytes, 0, 255 - SessionBytes, 255}) // a stored block that is not the last
	b.places = []int{out.Len()}
	out.Write(text[at : at+SessionBytes])
	if err := part(text[at+SessionBytes:], true); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	sum := crc32.ChecksumIEEE(text)
	b.sumAt = out.Len()
	var tail [8]byte
	binary.LittleEndian.PutUint32(tail[:], sum)
	binary.LittleEndian.PutUint32(tail[4:], uint32(len(text)))
	out.Write(tail[:])
	b.crc = new([256]uint32)
	for i := range SessionBytes {
		for bit := range 8 {
			text[at+i] ^= 1 << bit
			b.crc[i*8+bit] = crc32.ChecksumIEEE(text) ^ sum
			text[at+i] ^= 1 << bit
		}
	}
	b.Bytes = out.Bytes()
	return nil
}
