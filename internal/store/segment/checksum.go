package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// Arrow v17 can neither write nor check the page checksums of Parquet, so we
// have two of our own in the metadata: one over all bytes before the footer,
// one over the footer and the trailer. Both are eight hexadecimal digits that
// are blank while they are computed, the one of the footer last.
const (
	dataSumKey   = "serin.crc32c.data"
	footerSumKey = "serin.crc32c.footer"
	blank        = "--------"
	magic        = "PAR1"
	trailerSize  = 8 // length of the footer, magic
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal fills in the checksums of a file that is complete otherwise.
func seal(f *os.File) error {
	foot, start, err := footer(f)
	if err != nil {
		return err
	}
	sum, err := dataSum(f, start)
	if err != nil {
		return err
	}
	for _, key := range []string{dataSumKey, footerSumKey} {
		at, err := sumAt(foot, key)
		if err != nil {
			return err
		}
		if key == footerSumKey {
			sum = crc32.Checksum(foot, castagnoli)
		}
		copy(foot[at:], fmt.Sprintf("%08x", sum))
	}
	_, err = f.WriteAt(foot, start)
	return err
}

// footer returns the footer with the trailer behind it, and where it begins.
func footer(f *os.File) (foot []byte, start int64, err error) {
	stat, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	var tail [trailerSize]byte
	size := stat.Size()
	if size < int64(len(magic)+trailerSize) {
		return nil, 0, fmt.Errorf("%w: %d bytes", ErrCorrupt, size)
	}
	if _, err := f.ReadAt(tail[:], size-trailerSize); err != nil {
		return nil, 0, err
	}
	n := int64(binary.LittleEndian.Uint32(tail[:4])) + trailerSize
	if string(tail[4:]) != magic || n > size-int64(len(magic)) {
		return nil, 0, fmt.Errorf("%w: no footer", ErrCorrupt)
	}
	foot = make([]byte, n)
	if _, err := f.ReadAt(foot, size-n); err != nil {
		return nil, 0, err
	}
	return foot, size - n, nil
}

func dataSum(f *os.File, size int64) (uint32, error) {
	h := crc32.New(castagnoli)
	_, err := io.Copy(h, io.NewSectionReader(f, 0, size))
	return h.Sum32(), err
}

// sumAt finds the digits of a checksum in a footer, where Thrift's compact
// protocol writes a key and its value as: length, key, 0x18 (the next field is
// text), length, value. The last one counts: what a client can put into a
// footer, as statistics or as the app, comes before them.
func sumAt(foot []byte, key string) (int, error) {
	mark := append(append([]byte{byte(len(key))}, key...), 0x18, byte(len(blank)))
	at := bytes.LastIndex(foot, mark) + len(mark)
	if at < len(mark) || at+len(blank) > len(foot) {
		return 0, fmt.Errorf("%w: no %s", ErrCorrupt, key)
	}
	return at, nil
}

// verify checks the footer of a file and, if all is set, its data too.
func verify(f *os.File, all bool) error {
	foot, start, err := footer(f)
	if err != nil {
		return err
	}
	at, err := sumAt(foot, footerSumKey)
	if err != nil {
		return err
	}
	want := string(foot[at : at+len(blank)])
	copy(foot[at:], blank)
	if got := fmt.Sprintf("%08x", crc32.Checksum(foot, castagnoli)); got != want {
		return fmt.Errorf("%w: footer has checksum %s, want %s", ErrCorrupt, got, want)
	}
	if !all {
		return nil
	}
	if at, err = sumAt(foot, dataSumKey); err != nil {
		return err
	}
	sum, err := dataSum(f, start)
	if err != nil {
		return err
	}
	if got, want := fmt.Sprintf("%08x", sum), string(foot[at:at+len(blank)]); got != want {
		return fmt.Errorf("%w: data has checksum %s, want %s", ErrCorrupt, got, want)
	}
	return nil
}
