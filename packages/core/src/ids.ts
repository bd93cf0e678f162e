// Ids that cannot stand in for one another. A plain string is accepted (ids come from rows and
// messages), but an id of one kind is not assignable to another kind.

export type Id<Kind extends string> = string & { readonly __kind?: Kind }

export type InstanceId = Id<'instance'>
export type HostId = Id<'host'>
export type FlavorId = Id<'flavor'>
export type ImageId = Id<'image'>
export type DiskPoolId = Id<'diskPool'>
export type DiskId = Id<'disk'>
export type OperationId = Id<'operation'>
export type SnapshotId = Id<'snapshot'>
export type PlacementId = Id<'placement'>
