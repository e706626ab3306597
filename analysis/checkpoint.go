package analysis

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/cell"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/internal/store/segment"
)

// checkpointVersion changes with any change of what is kept; another version
// is not read, and the analysis starts again from the logs.
const checkpointVersion = 14

// checkpoint is the fold and the places in both logs that it stands for. In a file the parts
// of the table of sessions follow, and an empty one: as one value all of it would be in
// memory three times over.
type checkpoint struct {
	Version  int
	Position uint64
	Control  uint64
	Fold     *fold
}

func loadCheckpoint(path string) (checkpoint, error) {
	empty := checkpoint{Fold: newFold()}
	data, err := segment.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, fmt.Errorf("read checkpoint: %w", err)
	}
	// The version is read alone first: what else is in another version may not
	// fit the types of this one.
	var head struct{ Version int }
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&head); err != nil {
		return empty, fmt.Errorf("read checkpoint %s: %w (remove it to start again from the journal)", path, err)
	}
	if head.Version != checkpointVersion {
		return empty, nil
	}
	cp, err := decodeCheckpoint(data)
	if err != nil {
		return empty, fmt.Errorf("read checkpoint %s: %w (remove it to start again from the journal)", path, err)
	}
	// gob leaves out empty maps.
	if cp.Fold.Table.Sessions == nil {
		cp.Fold.Table.Sessions = map[session.Key]*session.Session{}
	}
	if cp.Fold.Cells == nil || cp.Fold.Cells.Cells == nil {
		cp.Fold.Cells = cell.NewStore()
	}
	if cp.Fold.Tests == nil {
		cp.Fold.Tests = map[rolloutKey]*canary.Test{}
	}
	if cp.Fold.Ended == nil {
		cp.Fold.Ended = map[rolloutKey]end{}
	}
	if cp.Fold.Books == nil {
		cp.Fold.Books = map[sloKey]*slo.Book{}
	}
	for _, t := range cp.Fold.Tests {
		t.Restore()
	}
	for _, b := range cp.Fold.Books {
		b.Restore()
	}
	return cp, nil
}

// encodeCheckpoint returns a checkpoint as a file has it. size is about how many bytes
// that is, as the one before had.
func encodeCheckpoint(cp checkpoint, size int) ([]byte, error) {
	cp.Fold.Table.Settle()
	var buf bytes.Buffer
	buf.Grow(size + size/8)
	enc := gob.NewEncoder(&buf)
	part := func(b []byte) error { return enc.Encode(b) }
	if err := errors.Join(enc.Encode(cp), cp.Fold.Table.Parts(part), part(nil)); err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	return buf.Bytes(), nil
}

func decodeCheckpoint(data []byte) (cp checkpoint, err error) {
	dec := gob.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&cp); err != nil {
		return cp, err
	}
	// gob leaves out what is empty.
	if cp.Fold.Table == nil {
		cp.Fold.Table = session.NewTable()
	}
	for {
		var part []byte
		if err := dec.Decode(&part); err != nil {
			return cp, fmt.Errorf("sessions: %w", err)
		}
		if err := cp.Fold.Table.AddPart(part); err != nil || len(part) == 0 {
			return cp, err
		}
	}
}
