// Puts :id for the parts of a path that name one thing, so that requests group
// by route and no identifier leaves the page.
const ID = /\/(?:\d+|[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}|[\da-f]{16,})(?=\/|$)/gi;

export const template = (path: string): string => path.replace(ID, '/:id');
