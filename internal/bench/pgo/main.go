// Command pgo makes a CPU profile fit to be kept: where files lay on the machine that it
// was taken on is cut to their names, which is all that the compiler asks of it.
//
//	pgo FROM TO
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"google.golang.org/protobuf/encoding/protowire"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pgo FROM TO")
		os.Exit(2)
	}
	if err := convert(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pgo:", err)
		os.Exit(1)
	}
}

func convert(from, to string) error {
	packed, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read the profile: %w", err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("read the profile: %w", err)
	}
	profile, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read the profile: %w", err)
	}
	if profile, err = withoutPaths(profile); err != nil {
		return err
	}
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("pack the profile: %w", err)
	}
	if _, err := w.Write(profile); err != nil {
		return fmt.Errorf("pack the profile: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("pack the profile: %w", err)
	}
	if err := os.WriteFile(to, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the profile: %w", err)
	}
	return nil
}

// stringTable is the number of the field of a profile that holds its texts
// (https://github.com/google/pprof/blob/main/proto/profile.proto).
const stringTable = 6

// withoutPaths returns a profile whose absolute paths are cut to their last part.
func withoutPaths(profile []byte) ([]byte, error) {
	out := make([]byte, 0, len(profile))
	for len(profile) > 0 {
		num, typ, n := protowire.ConsumeTag(profile)
		if n < 0 {
			return nil, fmt.Errorf("read the profile: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(num, typ, profile[n:])
		if size < 0 {
			return nil, fmt.Errorf("read the profile: %w", protowire.ParseError(size))
		}
		whole := profile[:n+size]
		profile = profile[n+size:]
		if num != stringTable {
			out = append(out, whole...)
			continue
		}
		if typ != protowire.BytesType {
			return nil, errors.New("read the profile: a text that is none")
		}
		text, _ := protowire.ConsumeBytes(whole[n:])
		if path.IsAbs(string(text)) {
			text = []byte(path.Base(string(text)))
		}
		out = protowire.AppendBytes(protowire.AppendTag(out, num, typ), text)
	}
	return out, nil
}
