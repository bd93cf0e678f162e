CREATE TABLE `disk_pool_hosts` (
	`disk_pool_uuid` text NOT NULL,
	`host_id` text NOT NULL,
	`state` text NOT NULL,
	`fault` text NOT NULL,
	`capacity_bytes` integer NOT NULL,
	`available_bytes` integer NOT NULL,
	`marker` text NOT NULL,
	`leaving_by` text,
	PRIMARY KEY(`disk_pool_uuid`, `host_id`)
);
--> statement-breakpoint
CREATE TABLE `disk_pools` (
	`uuid` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`kind` text NOT NULL,
	`path` text NOT NULL,
	`nfs` text,
	`rbd` text,
	`marker` text NOT NULL,
	`orphans` text NOT NULL,
	`shared` integer NOT NULL,
	`system_disks` text NOT NULL,
	`every_host` integer NOT NULL,
	`deletion_uuid` text,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `disk_pools_name_unique` ON `disk_pools` (`name`);--> statement-breakpoint
CREATE TABLE `disks` (
	`uuid` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`disk_pool_uuid` text NOT NULL,
	`host_id` text,
	`size_bytes` integer NOT NULL,
	`settled_bytes` integer NOT NULL,
	`status` text NOT NULL,
	`fault` text NOT NULL,
	`instance_uuid` text,
	`slot` integer NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `disks_name_unique` ON `disks` (`name`);--> statement-breakpoint
CREATE TABLE `flavors` (
	`uuid` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`vcpus` integer NOT NULL,
	`memory_mib` integer NOT NULL,
	`disk_gib` integer NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `flavors_name_unique` ON `flavors` (`name`);--> statement-breakpoint
CREATE TABLE `hosts` (
	`uuid` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`address` text NOT NULL,
	`state` text NOT NULL,
	`state_since_ms` integer NOT NULL,
	`conditions` text NOT NULL,
	`schedulable` integer NOT NULL,
	`drain` text,
	`facts` text NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `hosts_name_unique` ON `hosts` (`name`);--> statement-breakpoint
CREATE TABLE `idempotency_keys` (
	`key` text PRIMARY KEY NOT NULL,
	`method` text NOT NULL,
	`request_sha256` text NOT NULL,
	`response` blob NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `idempotency_keys_by_time` ON `idempotency_keys` (`created_at_ms`);--> statement-breakpoint
CREATE TABLE `images` (
	`uuid` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`url` text NOT NULL,
	`instance_uuid` text NOT NULL,
	`host_id` text NOT NULL,
	`sha256` text NOT NULL,
	`format` text,
	`size_bytes` integer NOT NULL,
	`virtual_size_bytes` integer NOT NULL,
	`status` text NOT NULL,
	`fault` text NOT NULL,
	`disk_pool_uuid` text NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `images_name_unique` ON `images` (`name`);--> statement-breakpoint
CREATE TABLE `instances` (
	`uuid` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`generated_name` text NOT NULL,
	`namespace` text NOT NULL,
	`flavor_uuid` text NOT NULL,
	`image_uuid` text NOT NULL,
	`disk_pool_uuid` text NOT NULL,
	`host_id` text NOT NULL,
	`leaving_host_id` text,
	`migration` text,
	`stale_copies` text NOT NULL,
	`host_ids` text NOT NULL,
	`share_storage` integer NOT NULL,
	`tags` text NOT NULL,
	`vcpus` integer NOT NULL,
	`memory_mib` integer NOT NULL,
	`disk_bytes` integer NOT NULL,
	`ha` integer NOT NULL,
	`hostname` text NOT NULL,
	`ssh_keys` text NOT NULL,
	`user_data_sha256` text NOT NULL,
	`power` text NOT NULL,
	`locked` integer NOT NULL,
	`generation` integer NOT NULL,
	`reboot_generation` integer NOT NULL,
	`reboot_kind` text NOT NULL,
	`disk_generation` integer NOT NULL,
	`addresses` text NOT NULL,
	`disk_snapshot_uuid` text,
	`disk_source` text,
	`settled_generation` integer NOT NULL,
	`status` text NOT NULL,
	`task` text,
	`fault` text NOT NULL,
	`restarts` integer NOT NULL,
	`last_disk_slot` integer NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `instances_generatedName_unique` ON `instances` (`generated_name`);--> statement-breakpoint
CREATE INDEX `instances_by_name` ON `instances` (`namespace`,`name`);--> statement-breakpoint
CREATE TABLE `join_tokens` (
	`uuid` text PRIMARY KEY NOT NULL,
	`role` text NOT NULL,
	`name` text NOT NULL,
	`uses` integer NOT NULL,
	`used_by` text NOT NULL,
	`expires_at_ms` integer NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `members` (
	`id` text PRIMARY KEY NOT NULL,
	`key_sha256` text NOT NULL,
	`joined_at_ms` integer NOT NULL,
	`nats_users` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `meta` (
	`id` integer PRIMARY KEY NOT NULL,
	`store_id` text NOT NULL,
	`epoch` integer NOT NULL,
	`published` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `operations` (
	`uuid` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`resource_uuid` text NOT NULL,
	`generation` integer NOT NULL,
	`status` text NOT NULL,
	`fault` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	`ended_at_ms` integer,
	`placement_uuid` text,
	`note` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `operations_by_status` ON `operations` (`status`,`ended_at_ms`);--> statement-breakpoint
CREATE INDEX `operations_by_resource` ON `operations` (`resource_uuid`,`created_at_ms`);--> statement-breakpoint
CREATE INDEX `operations_by_time` ON `operations` (`created_at_ms`);--> statement-breakpoint
CREATE TABLE `outbox` (
	`position` integer PRIMARY KEY NOT NULL,
	`at_ms` integer NOT NULL,
	`kind` text NOT NULL,
	`id` text NOT NULL,
	`what` text NOT NULL,
	`data` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `placements` (
	`uuid` text PRIMARY KEY NOT NULL,
	`instance_uuid` text NOT NULL,
	`host_id` text NOT NULL,
	`disk_pool_uuid` text NOT NULL,
	`verdict` text NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `placements_by_time` ON `placements` (`created_at_ms`);--> statement-breakpoint
CREATE TABLE `rebalances` (
	`uuid` text PRIMARY KEY NOT NULL,
	`is_periodic` integer NOT NULL,
	`bound_percent` real NOT NULL,
	`parallel` integer NOT NULL,
	`spread_before_percent` real NOT NULL,
	`explanation` text NOT NULL,
	`started_at_ms` integer NOT NULL,
	`ended_at_ms` integer,
	`is_cancelled` integer NOT NULL,
	`moves` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `revocations` (
	`key_sha256` text PRIMARY KEY NOT NULL,
	`member_id` text NOT NULL,
	`nats_users` text NOT NULL,
	`revoked_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `snapshots` (
	`uuid` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`instance_uuid` text NOT NULL,
	`status` text NOT NULL,
	`fault` text NOT NULL,
	`size_bytes` integer NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `user_data` (
	`instance_uuid` text PRIMARY KEY NOT NULL,
	`text` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `webhooks` (
	`uuid` text PRIMARY KEY NOT NULL,
	`url` text NOT NULL,
	`secret` text NOT NULL,
	`events` text NOT NULL,
	`enabled` integer NOT NULL,
	`position` text NOT NULL,
	`failures` integer NOT NULL,
	`last_success_at_ms` integer,
	`last_error` text NOT NULL,
	`last_gap` text NOT NULL,
	`created_at_ms` integer NOT NULL
);
